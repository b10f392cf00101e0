"""Keys and values of what was read already."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

__all__ = ["LayerCache"]


class LayerCache:
    """Keys and values of one layer, written in place into memory for ``capacity`` positions that is taken once."""

    def __init__(self, capacity: int) -> None:
        self._capacity, self._length = capacity, 0
        self._memory: tuple[Tensor, Tensor] | None = None
        self._context: tuple[Tensor, Tensor] | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add keys and values, ``(batch, heads, length, dim)``; return all there are."""
        batch, heads, length, dim = keys.shape
        if self._memory is None:
            shape = (batch, heads, self._capacity, dim)
            self._memory = keys.new_empty(shape), values.new_empty(shape)
        all_keys, all_values = self._memory
        all_keys.narrow(2, self._length, length).copy_(keys)
        all_values.narrow(2, self._length, length).copy_(values)
        self._length += length
        return all_keys.narrow(2, 0, self._length), all_values.narrow(2, 0, self._length)

    def context(self, compute: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Keys and values of the context, computed on the first call."""
        if self._context is None:
            self._context = compute()
        return self._context

    def clear(self) -> None:
        """Forget the text, but not the context; keep the memory."""
        self._length = 0
