"""Attention with its projections, rotary positions and key/value cache."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from lightning_dropout.models.transformer.cache import LayerCache
from lightning_dropout.models.transformer.config import TransformerConfig
from lightning_dropout.models.transformer.positions import rotate
from lightning_dropout.models.transformer.projection import Projection

__all__ = ["SelfAttention"]


class SelfAttention(nn.Module):
    """Multi-head self-attention; queries, keys and values come out of one projection."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads = config.num_heads, config.num_kv_heads
        self.head_dim = config.head_dim
        num_rows = (self.num_heads + 2 * self.num_kv_heads) * self.head_dim
        self.qkv = Projection(config.dim, num_rows, bias=config.bias)
        self.output = Projection(config.dim, config.dim, bias=config.bias, gain=config.residual_gain)

    def forward(
        self,
        x: Tensor,
        *,
        dropout: Callable[..., Tensor],
        rotation: Tensor | None,
        mask: Tensor | None,
        cache: LayerCache | None,
    ) -> Tensor:
        """Attend within ``x``, ``(batch, length, dim)``; without a mask every position sees itself and those before."""
        batch, length, _ = x.shape
        heads = self.qkv(x).view(batch, length, -1, self.head_dim)
        qk, v = heads.split((self.num_heads + self.num_kv_heads, self.num_kv_heads), dim=2)
        if rotation is not None:
            qk = rotate(qk, rotation)
        q, k = qk.split((self.num_heads, self.num_kv_heads), dim=2)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        if cache is not None:
            k, v = cache.append(k, v)
        context = dropout(q, k, v, mask=mask, is_causal=mask is None and length > 1)
        output: Tensor = self.output(context.transpose(1, 2).reshape(batch, length, -1))
        return output
