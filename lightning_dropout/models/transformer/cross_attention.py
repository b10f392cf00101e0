"""Attention to a given context."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from lightning_dropout.models.transformer.cache import LayerCache
from lightning_dropout.models.transformer.config import TransformerConfig
from lightning_dropout.models.transformer.projection import Projection
from lightning_dropout.models.transformer.scope import Scope

__all__ = ["CrossAttention"]


class CrossAttention(nn.Module):
    """Multi-head attention whose keys and values come from a context of width ``context_dim``."""

    def __init__(self, config: TransformerConfig, context_dim: int) -> None:
        super().__init__()
        self.num_kv_heads, self.head_dim = config.key_value_heads, config.head_dim
        self.query = Projection(config.dim, config.dim, bias=config.bias)
        self.key_value = Projection(context_dim, 2 * self.num_kv_heads * self.head_dim, bias=config.bias)
        self.output = Projection(config.dim, config.dim, bias=config.bias)

    def forward(
        self,
        x: Tensor,
        scope: Scope,
        *,
        dropout: nn.Module,
        head_dropout: nn.Module,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """Attend from ``x``, ``(batch, length, dim)``, to the context; the cache reads the context once."""
        assert scope.context is not None
        batch, length, _ = x.shape
        q = self.query(x).view(batch, length, -1, self.head_dim).transpose(1, 2)
        read = partial(self._keys_and_values, scope.context.tokens)
        k, v = read() if cache is None else cache.context(read)
        attended = dropout(q, k, v, mask=scope.context.mask)
        if scope.drops:
            attended = head_dropout(attended)
        output: Tensor = self.output(attended.transpose(1, 2).reshape(batch, length, -1))
        return output

    def _keys_and_values(self, context: Tensor) -> tuple[Tensor, Tensor]:
        heads = self.key_value(context).view(*context.shape[:2], -1, self.head_dim)
        k, v = heads.transpose(1, 2).chunk(2, dim=1)
        return k, v
