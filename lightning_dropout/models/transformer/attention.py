"""Self-attention with its projections and rotary positions."""

from __future__ import annotations

from torch import Tensor, nn

from lightning_dropout.models.transformer.cache import LayerCache
from lightning_dropout.models.transformer.config import TransformerConfig
from lightning_dropout.models.transformer.positions import rotate
from lightning_dropout.models.transformer.projection import Projection
from lightning_dropout.models.transformer.scope import Scope

__all__ = ["SelfAttention"]


class SelfAttention(nn.Module):
    """Multi-head self-attention; queries, keys and values come out of one projection."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads = config.num_heads, config.key_value_heads
        self.head_dim = config.head_dim
        num_rows = (self.num_heads + 2 * self.num_kv_heads) * self.head_dim
        self.qkv = Projection(config.dim, num_rows, bias=config.bias)
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
        """Attend within ``x``, ``(batch, length, dim)``, and what is in the cache."""
        batch, length, _ = x.shape
        heads = self.qkv(x).view(batch, length, -1, self.head_dim)
        if scope.rotation is not None:
            qk, v = heads.split_with_sizes((self.num_heads + self.num_kv_heads, self.num_kv_heads), dim=2)
            q, k = rotate(qk, scope.rotation).split_with_sizes((self.num_heads, self.num_kv_heads), dim=2)
        else:
            q, k, v = heads.split_with_sizes((self.num_heads, self.num_kv_heads, self.num_kv_heads), dim=2)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        if cache is not None:
            k, v = cache.append(k, v)
        context = dropout(q, k, v, mask=scope.mask, is_causal=scope.is_causal)
        if scope.drops:
            context = head_dropout(context)
        output: Tensor = self.output(context.transpose(1, 2).reshape(batch, length, -1))
        return output
