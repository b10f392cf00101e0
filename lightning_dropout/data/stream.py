"""Windows of texts that are read, tokenized and shuffled while training goes on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from lightning_dropout.data.sources import read_texts
from lightning_dropout.data.token_file import encode
from lightning_dropout.data.tokenizers import Tokenizer

__all__ = ["StreamLoader", "WindowStream"]

# Between the orders of two passes over the files in one epoch, so that no other epoch has one of them.
_PASS = 1_000_000


class WindowStream(IterableDataset[tuple[Tensor, Tensor]]):
    """Endless pairs of (input, target), int64 of shape ``(context_length,)``, from documents that are read one by one.

    The windows follow each other in the documents, without overlap and across their borders, and leave through a
    buffer in random order. When the documents are at their end they begin again, with their files in another order.
    What comes depends on (seed, epoch) and on the part of the documents that ``rows`` gives, and on nothing else.

    Args:
        rows: A ``datasets.IterableDataset``, split by rank and with its files shuffled.
        tokenizer: Makes token ids of texts.
        column: The column of texts.
        context_length: Tokens in an input.
        buffer_size: Windows among which one is drawn.
        seed: Non-negative.
    """

    def __init__(
        self, rows: Any, tokenizer: Tokenizer, *, column: str, context_length: int, buffer_size: int, seed: int
    ) -> None:
        self.rows, self.column, self.tokenizer = rows, column, tokenizer
        self.context_length, self.buffer_size, self.seed = context_length, buffer_size, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Begin the next iteration as that of ``epoch``."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for index in count():
            self.rows.set_epoch(self.epoch + _PASS * index)
            num_windows = 0
            for window in self._shuffled(np.random.default_rng((self.seed, self.epoch, index))):
                ids = torch.from_numpy(window.astype(np.int64))
                yield ids[:-1], ids[1:]
                num_windows += 1
            if not num_windows:
                return  # a worker without a file

    def _shuffled(self, generator: np.random.Generator) -> Iterator[Any]:
        buffer: list[Any] = []
        for window in self._windows():
            if len(buffer) < self.buffer_size:
                buffer.append(window)
            else:
                index = generator.integers(self.buffer_size)
                yield buffer[index]
                buffer[index] = window
        yield from (buffer[index] for index in generator.permutation(len(buffer)))

    def _windows(self) -> Iterator[Any]:
        rest = np.empty(0, np.int64)
        texts = read_texts(self.rows, self.column, owner="TextData")
        for ids in encode((f"\n\n{text}" for text in texts), self.tokenizer):
            ids = np.concatenate([rest, ids])
            num_windows = max(len(ids) - 1, 0) // self.context_length
            for start in range(0, num_windows * self.context_length, self.context_length):
                yield ids[start : start + self.context_length + 1].copy()  # a view would keep the document
            rest = ids[num_windows * self.context_length :]


class StreamLoader:
    """A fixed number of batches of a stream per epoch, which a resumed Trainer continues after the last one consumed.

    What was consumed is read again and left out. The Trainer's own count of batches says how much that is, so a
    checkpoint needs nothing of the loader, which is stateful only because the Trainer asks for that.

    Args:
        stream: Where the samples come from.
        num_batches: In an epoch, the same on all ranks.
        trainer: The Trainer that trains on it, if there is one.
        **options: Of a DataLoader.
    """

    def __init__(self, stream: WindowStream, *, num_batches: int, trainer: Trainer | None, **options: Any) -> None:
        self.num_batches, self.trainer = num_batches, trainer
        self.sampler = stream  # where the Trainer looks for set_epoch
        self.batch_size = options["batch_size"]
        self._options = options

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[Any]:
        # A generator, so that nothing is read before the Trainer has set the epoch.
        trainer, num_consumed = self.trainer, 0
        if trainer is not None and trainer.training and trainer.train_dataloader is self:
            num_consumed = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        # Without a generator every new iterator would draw from the global random state.
        batches = DataLoader(self.sampler, generator=torch.Generator().manual_seed(0), **self._options)
        yield from islice(batches, num_consumed, self.num_batches)

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take nothing."""
