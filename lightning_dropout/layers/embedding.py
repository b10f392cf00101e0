"""Embedding dropout: whole words of the vocabulary are dropped."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_dropout.layers.mask import keep_mask, keep_scale
from lightning_dropout.layers.rate import LiveRate

__all__ = ["EmbeddingDropout"]


class EmbeddingDropout(LiveRate):
    """Drop whole words of the vocabulary, wherever they occur in the batch (Gal & Ghahramani 2016, AWD-LSTM).

    Example:
        >>> embed, drop_words = nn.Embedding(10, 4), EmbeddingDropout(0.5)
        >>> vectors = drop_words(embed, torch.tensor([[3, 7, 3]]))
        >>> vectors[0, 0].equal(vectors[0, 2])
        True
    """

    kind = "embedding"

    def forward(self, embedding: nn.Embedding, ids: Tensor) -> Tensor:
        """Embed ``ids``, shape ``(batch, length)``, as ``(batch, length, dim)``; equal ids share their fate."""
        vectors: Tensor = embedding(ids)
        if self.idle:
            return vectors
        rate = self.live_rate
        kept = keep_mask((embedding.num_embeddings, 1), rate, vectors.device)[ids]
        return torch.where(kept, vectors * keep_scale(rate), 0.0)
