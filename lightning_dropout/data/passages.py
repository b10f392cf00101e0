"""Passages of labelled documents as data of a text classifier."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lightning_dropout.data.columns import class_names
from lightning_dropout.data.corpus import sotu_table
from lightning_dropout.data.loading import check_counts
from lightning_dropout.data.sources import find_column, load_frames
from lightning_dropout.data.split_data import SplitData
from lightning_dropout.data.splits import split
from lightning_dropout.data.token_file import learn_tokenizer
from lightning_dropout.data.tokenizer_choice import find_tokenizer, tokenizer_from_state
from lightning_dropout.data.tokenizers import Tokenizer

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Passages", "TextClassificationData"]


class Passages(Dataset[tuple[Tensor, int]]):
    """Pairs of (ids, label), int64 of shape ``(context_length,)`` and a class, kept as narrow as the vocabulary is."""

    def __init__(self, ids: NDArray[Any], labels: NDArray[np.int64]) -> None:
        self.ids, self.labels = torch.from_numpy(ids), torch.from_numpy(labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.ids[index].long(), int(self.labels[index])

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, int]]:
        return list(zip(self.ids[indices].long(), self.labels[indices].tolist(), strict=True))


class TextClassificationData(SplitData):
    """Batches (ids, label) of labelled texts: int64 ``(batch, context_length)`` and int64 ``(batch,)``.

    A document that is longer than ``context_length`` tokens is cut into passages of that length, each with the label
    of the document; what is left over at its end is dropped. A shorter one is filled up with token 0, the padding, and
    all other ids are those of the tokenizer plus one: give the network ``EncoderConfig(padding_id=0)``.

    Training and validation share no document. Where the source has no validation split, ``val_fraction`` of the
    documents of every class are for validation, chosen by ``seed``. ``test`` and ``predict`` visit the test split, or
    the validation passages where there is none. The vocabulary is that of the training documents, and goes into
    checkpoints. The order of training is a pure function of (seed, epoch, data-parallel rank), and a checkpoint from
    the middle of an epoch continues there. Tokens are kept in memory.

    Args:
        path: A file or glob (parquet, csv, tsv, json, jsonl), a folder, or a dataset on the Hugging Face hub,
            ``owner/name``. By default the State of the Union addresses of the package ``sotu``, with the columns
            ``text``, ``century``, ``president`` and ``party``.
        text_column: Column of texts.
        label_column: Column of labels; by default ``label``, and ``century`` for the default texts.
        tokenizer: ``char``, ``byte``, or the path of a ``tokenizer.json``.
        context_length: Tokens in a passage.
        max_passages: Take at most so many passages of a document, spread over it; by default all.
        batch_size: Passages in a batch of each data-parallel rank; less if there are fewer.
        val_fraction: Share of the documents that is kept for validation.
        num_workers: Loading processes; none are needed.
        seed: Of split and order.

    Raises:
        ValueError: Where a value is out of range; at setup, if a column is missing.
        FileNotFoundError: At setup, if there is nothing at ``path``.

    Example:
        >>> data = TextClassificationData(context_length=64, max_passages=2, batch_size=8)
        >>> data.classes
        ('18th', '19th', '20th', '21st')
        >>> ids, labels = next(iter(data.train_dataloader()))
        >>> ids.shape, labels.shape
        (torch.Size([8, 64]), torch.Size([8]))
    """

    def __init__(
        self,
        path: str | None = None,
        *,
        text_column: str = "text",
        label_column: str | None = None,
        tokenizer: str = "char",
        context_length: int = 256,
        max_passages: int | None = None,
        batch_size: int = 64,
        val_fraction: float = 0.2,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, val_fraction=val_fraction, num_workers=num_workers, seed=seed)
        path = None if path is None else os.fspath(path)
        check_counts(
            "TextClassificationData",
            context_length=context_length,
            max_passages=1 if max_passages is None else max_passages,
        )
        self.save_hyperparameters()
        self.path, self.text_column = path, text_column
        self.label_column = label_column or ("century" if path is None else "label")
        self.tokenizer_name = tokenizer
        self.context_length, self.max_passages = context_length, max_passages
        self._tokenizer: Tokenizer | None = None
        self._classes: tuple[str, ...] | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        """That of characters is made from the training texts, unless a checkpoint brought it."""
        if self._tokenizer is None:
            self.setup()
        assert self._tokenizer is not None
        return self._tokenizer

    @property
    def vocab_size(self) -> int:
        """Number of tokens, the padding included, known before ``setup``."""
        return self.tokenizer.vocab_size + 1

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""
        if self._classes is None:
            self.setup()
        assert self._classes is not None
        return self._classes

    @property
    def num_classes(self) -> int:
        """Number of classes, known before ``setup``, so that LightningCLI can hand it to the model."""
        return len(self.classes)

    def encode(self, text: str) -> Tensor:
        """Token ids of ``text``, int64 of shape ``(length,)``."""
        return self.tokenizer.encode(text) + 1

    def decode(self, ids: Tensor) -> str:
        """The text of ``ids``, of shape ``(length,)``, without the padding."""
        return self.tokenizer.decode(ids[ids > 0] - 1)

    def setup(self, stage: str | None = None) -> None:
        """Read the documents, once, and keep the tokens of their passages."""
        if self._parts is not None:
            return
        frames = {"train": sotu_table()} if self.path is None else load_frames(self.path, owner=type(self).__name__)
        if "train" not in frames:
            raise ValueError(f"TextClassificationData(path={self.path!r}): found the splits {', '.join(frames)}.")
        columns = list(frames["train"].columns)
        find_column(columns, self.text_column, owner=type(self).__name__, argument="text_column")
        find_column(columns, self.label_column, owner=type(self).__name__, argument="label_column")
        frames = {name: self._labelled(frame) for name, frame in frames.items()}
        if "validation" not in frames:
            labels = frames["train"][self.label_column].to_numpy()
            chosen = split(len(labels), self.val_fraction, seed=self.seed, labels=labels)
            train = frames["train"]
            frames["train"], frames["validation"] = (train.iloc[rows] for rows in chosen)
        if self._tokenizer is None:
            found = find_tokenizer(self.tokenizer_name, owner=type(self).__name__)
            self._tokenizer = found or learn_tokenizer(frames["train"][self.text_column])
        self._classes = self._classes or tuple(sorted(set(frames["train"][self.label_column])))
        self._parts = {name: self._passages(frame) for name, frame in frames.items()}

    def state_dict(self) -> dict[str, Any]:
        """The tokenizer and the names of the classes."""
        return {**self.tokenizer.state_dict(), "classes": list(self.classes)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over tokenizer and classes of a checkpoint.

        Raises:
            ValueError: If the texts were read already and have others.
        """
        tokenizer, classes = tokenizer_from_state(state_dict), tuple(state_dict["classes"])
        if self._parts is not None and (self._tokenizer, self._classes) != (tokenizer, classes):
            raise ValueError(
                f"TextClassificationData: the checkpoint has {tokenizer.vocab_size + 1} tokens and the classes "
                f"{', '.join(classes)}, the texts {self.vocab_size} and {', '.join(self.classes)}, or others. "
                "Give the texts it was trained on."
            )
        self._tokenizer, self._classes = tokenizer, classes

    def _labelled(self, frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame[[self.text_column, self.label_column]].dropna()
        return frame.assign(**{self.label_column: class_names(frame[self.label_column])})

    def _passages(self, frame: pd.DataFrame) -> Passages:
        ids, labels = [], []
        for text, label in zip(frame[self.text_column], frame[self.label_column], strict=True):
            if label not in self.classes:
                raise ValueError(
                    f"TextClassificationData(label_column={self.label_column!r}): found {label!r}, which training has "
                    "not. Leave those texts out."
                )
            passages = self._cut(self.encode(str(text)).numpy())
            ids.append(passages)
            labels += [self.classes.index(label)] * len(passages)
        return Passages(np.concatenate(ids), np.array(labels))

    def _cut(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Passages of one document, of shape ``(num_passages, context_length)``."""
        num_passages = max(len(ids) // self.context_length, 1)
        ids = ids[: num_passages * self.context_length]
        filled = np.zeros(num_passages * self.context_length, np.min_scalar_type(self.vocab_size))
        filled[: len(ids)] = ids
        passages = filled.reshape(num_passages, self.context_length)
        if self.max_passages is None or num_passages <= self.max_passages:
            return passages
        spread = np.linspace(0, num_passages - 1, self.max_passages).round().astype(int)
        return np.asarray(passages[spread])
