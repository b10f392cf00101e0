"""Keys and values of what was read already."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["LayerCache"]


class LayerCache:
    """Keys and values of one layer, written in place into memory that is taken once.

    ``shape`` is ``(batch, heads, capacity, dim)``.
    """

    def __init__(self, shape: tuple[int, int, int, int], *, device: torch.device, dtype: torch.dtype) -> None:
        self._keys = torch.empty(shape, device=device, dtype=dtype)
        self._values = torch.empty(shape, device=device, dtype=dtype)
        self._length = 0
        self._context: tuple[Tensor, Tensor] | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add keys and values, ``(batch, heads, length, dim)``; return all there are."""
        start, self._length = self._length, self._length + keys.shape[2]
        self._keys[:, :, start : self._length] = keys
        self._values[:, :, start : self._length] = values
        return self._keys[:, :, : self._length], self._values[:, :, : self._length]

    def context(self, compute: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Keys and values of the context, computed on the first call."""
        if self._context is None:
            self._context = compute()
        return self._context

    def clear(self) -> None:
        """Forget the text, but not the context; keep the memory."""
        self._length = 0
