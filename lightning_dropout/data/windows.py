"""Windows of a token sequence, and the order in which training visits them."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

__all__ = ["MappedWindows", "TokenFile", "WindowSampler", "Windows"]


@dataclass(frozen=True)
class TokenFile:
    """Token ids that lie in a file, one after the other.

    Args:
        path: Of the file.
        dtype: Of an id, as NumPy calls it.
        start: Of the part that is meant.
        stop: The end of that.
    """

    path: str
    dtype: str
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def split(self, sizes: list[int]) -> list[TokenFile]:
        """Parts of so many tokens each, as ``Tensor.split`` makes them."""
        bounds = [self.start, *(self.start + end for end in accumulate(sizes))]
        return [replace(self, start=start, stop=stop) for start, stop in pairwise(bounds)]


class Windows(Dataset[tuple[Tensor, Tensor]]):
    """Pairs of (input, target) cut from one sequence, the target one token ahead; int64 of shape ``(context_length,)``.

    The sequence is not copied, whatever the overlap: window ``i`` is a view that starts at token ``i * stride``.

    Example:
        >>> import torch
        >>> windows = Windows(torch.arange(8), context_length=3, stride=2)
        >>> len(windows)
        3
        >>> windows[1]
        (tensor([2, 3, 4]), tensor([3, 4, 5]))
    """

    def __init__(self, tokens: Tensor, context_length: int, *, stride: int = 1) -> None:
        self.context_length = context_length
        self._windows = tokens.unfold(0, context_length + 1, stride)

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        window = self._windows[index].long()
        return window[:-1], window[1:]

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, Tensor]]:
        windows = self._windows[indices].long()  # one gather for the whole batch
        return list(zip(windows[:, :-1], windows[:, 1:], strict=True))


class MappedWindows(Windows):
    """The same, of tokens in a file that is mapped into memory; its pages are given back after every batch.

    Args:
        tokens: The file.
        context_length: Tokens in an input.
        stride: Tokens from one window to the next.
    """

    def __init__(self, tokens: TokenFile, context_length: int, *, stride: int = 1) -> None:
        self.context_length = context_length
        self._arguments = tokens, context_length, stride
        with open(tokens.path, "rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        ids = np.frombuffer(self._map, tokens.dtype)[tokens.start : tokens.stop]
        self._mapped = np.lib.stride_tricks.sliding_window_view(ids, context_length + 1)[::stride]

    def __len__(self) -> int:
        return len(self._mapped)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, Tensor]]:
        windows = torch.from_numpy(self._mapped[indices].astype(np.int64))
        if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            self._map.madvise(mmap.MADV_DONTNEED)
        return list(zip(windows[:, :-1], windows[:, 1:], strict=True))

    def __reduce__(self) -> Any:
        # A process that does not fork maps the file itself.
        tokens, context_length, stride = self._arguments
        return partial(MappedWindows, stride=stride), (tokens, context_length)


class WindowSampler(DistributedSampler[int]):
    """Starts of windows that cover the sequence once an epoch, shuffled and cut at a new offset every epoch.

    The order is a pure function of the seed, the epoch and the rank: the global random state is neither read nor
    moved. All ranks get the same number of windows. Being a ``DistributedSampler``, it is left alone by the Trainer,
    which also calls ``set_epoch``.

    Args:
        windows: Windows with stride 1.
        seed: Non-negative.
        num_replicas: Number of data-parallel ranks.
        rank: The data-parallel rank.

    Example:
        >>> import torch
        >>> sampler = WindowSampler(Windows(torch.arange(13), context_length=3), seed=0)
        >>> sorted(sampler)
        [2, 5, 8, 9]
    """

    def __init__(self, windows: Windows, *, seed: int, num_replicas: int = 1, rank: int = 0) -> None:
        super().__init__(windows, num_replicas, rank, seed=seed, drop_last=True)
        self.stride = windows.context_length
        self.last = len(windows) - 1
        self.num_windows = -(-len(windows) // self.stride)
        self.num_samples = self.num_windows // num_replicas
        self.total_size = self.num_samples * num_replicas

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng((self.seed, self.epoch))
        offset = int(generator.integers(self.stride))
        order = np.arange(self.num_windows, dtype=np.min_scalar_type(self.num_windows))
        generator.shuffle(order)
        # An offset pushes the last window over the end: it is moved back, so that every epoch has as many.
        for window in order[self.rank : self.total_size : self.num_replicas]:
            yield min(offset + self.stride * int(window), self.last)
