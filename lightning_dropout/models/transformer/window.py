"""The part of a text that a Transformer sees while it generates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lightning_dropout.models.transformer.cache import LayerCache
from lightning_dropout.models.transformer.positions import Positions
from lightning_dropout.models.transformer.scope import Context

if TYPE_CHECKING:
    from lightning_dropout.models.transformer.model import Transformer

__all__ = ["Window"]


class Window:
    """Reads ``tokens``, ``(batch, columns)``, from left to right; row ``i`` has its text from ``starts[i]`` on.

    Every row sees at most ``context_length`` tokens. Where it is full, the latest half of it stays and is read again.
    Rows slide each on their own, so that no row's text depends on the others in the batch.
    """

    def __init__(
        self,
        network: Transformer,
        tokens: Tensor,
        starts: Sequence[int],
        context: Context | None = None,
        *,
        drops: bool = True,
    ) -> None:
        config = network.config
        self._network, self._tokens, self._starts = network, tokens, list(starts)
        self._context_length, self._context, self._drops = config.num_positions, context, drops
        self._first = self._end = 0
        capacity = min(tokens.shape[1], config.num_positions)
        self._caches = [LayerCache(capacity) for _ in range(config.num_layers)]

    def next_logits(self, end: int) -> Tensor:
        """Logits, ``(batch, vocab)``, of the tokens in column ``end``, after reading all columns before it."""
        if end - self._first > self._context_length:
            self._slide(end)
        columns, self._end = slice(self._end, end), end
        positions: Positions = slice(columns.start - self._first, end - self._first)
        mask = None
        if max(self._starts) > self._first:
            positions, mask = self._align(columns)
        return self._network.read(
            self._tokens[:, columns],
            positions,
            mask=mask,
            context=self._context,
            caches=self._caches,
            drops=self._drops,
        )

    def _slide(self, end: int) -> None:
        latest = end - max(self._context_length // 2, 1)
        self._starts = [latest if end - start > self._context_length else start for start in self._starts]
        self._first = self._end = min(self._starts)
        for cache in self._caches:
            cache.clear()

    def _align(self, columns: slice) -> tuple[Tensor, Tensor]:
        device = self._tokens.device
        starts = torch.tensor(self._starts, device=device)[:, None]
        queries = torch.arange(columns.start, columns.stop, device=device)
        keys = torch.arange(self._first, columns.stop, device=device)
        mask = (keys >= starts[:, :, None]) & (keys <= queries[:, None])
        mask |= keys == queries[:, None]  # before its text a row sees itself: a softmax over nothing would be NaN
        return (queries - starts).clamp(min=0), mask[:, None]
