"""The feed-forward half of a block."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_dropout.models.transformer.config import TransformerConfig
from lightning_dropout.models.transformer.projection import Projection
from lightning_dropout.models.transformer.scope import Scope

__all__ = ["FeedForward"]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}


class FeedForward(nn.Module):
    """Two linear layers with an activation between; SwiGLU gates one half of the first by the other (Shazeer 2020)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.activation = _ACTIVATIONS.get(config.activation)
        hidden_dim = config.feed_forward_dim
        self.input = Projection(config.dim, hidden_dim if self.activation else 2 * hidden_dim, bias=config.bias)
        self.output = Projection(hidden_dim, config.dim, bias=config.bias)

    def forward(self, x: Tensor, scope: Scope, *, dropout: Callable[[Tensor], Tensor]) -> Tensor:
        """Transform each position of ``x``, ``(batch, length, dim)``, on its own."""
        hidden = self.input(x)
        if self.activation is not None:
            hidden = self.activation(hidden)
        else:
            gate, hidden = hidden.chunk(2, dim=-1)
            hidden = F.silu(gate) * hidden
        output: Tensor = self.output(dropout(hidden) if scope.drops else hidden)
        return output
