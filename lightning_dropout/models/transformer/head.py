"""From the residual stream to logits."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from lightning_dropout.models.transformer.config import TransformerConfig
from lightning_dropout.models.transformer.projection import Projection

__all__ = ["make_head", "pool"]


def make_head(config: TransformerConfig) -> Projection | None:
    """The output layer that ``config`` asks for; None where it is the embedding."""
    if config.encoder is not None:
        return Projection(config.dim, config.encoder.num_classes, bias=True)
    if config.tie_weights or config.vocab_size is None:
        return None
    return Projection(config.dim, config.vocab_size, bias=False)


def pool(x: Tensor, mask: Tensor | None, pooling: Literal["class", "mean"]) -> Tensor:
    """One vector per sequence of ``x``, ``(batch, length, dim)``: its first one, or the mean of those in the mask."""
    if pooling == "class":
        return x[:, 0]
    if mask is None:
        return x.mean(dim=1)
    weights = mask.to(x.dtype).unsqueeze(-1)
    return (x * weights).sum(dim=1) / weights.sum(dim=1)
