"""The feed-forward half of a block."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_dropout.models.transformer.config import TransformerConfig
from lightning_dropout.models.transformer.projection import Projection

__all__ = ["FeedForward"]


class FeedForward(nn.Module):
    """Two linear layers with an activation between; SwiGLU gates one half of the first by the other (Shazeer 2020)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.is_gated = config.activation == "swiglu"
        self.input = Projection(config.dim, config.hidden_dim * (2 if self.is_gated else 1), bias=config.bias)
        self.output = Projection(config.hidden_dim, config.dim, bias=config.bias, gain=config.residual_gain)

    def forward(self, x: Tensor, *, dropout: Callable[[Tensor], Tensor]) -> Tensor:
        """Transform each position of ``x``, ``(batch, length, dim)``, on its own."""
        hidden = self.input(x)
        if self.is_gated:
            gate, hidden = hidden.chunk(2, dim=-1)
            hidden = F.silu(gate) * hidden
        else:
            hidden = F.gelu(hidden)
        output: Tensor = self.output(dropout(hidden))
        return output
