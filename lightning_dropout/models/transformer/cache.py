"""Keys and values of the positions that were read already."""

from __future__ import annotations

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

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add keys and values, ``(batch, heads, length, dim)``; return all there are."""
        start, self._length = self._length, self._length + keys.shape[2]
        self._keys[:, :, start : self._length] = keys
        self._values[:, :, start : self._length] = values
        return self._keys[:, :, : self._length], self._values[:, :, : self._length]

    def clear(self) -> None:
        """Forget everything, keep the memory."""
        self._length = 0
