"""Dropout inside attention: on the attention weights, or on the context vectors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_dropout.layers import functional
from lightning_dropout.layers.rate import LiveRate

__all__ = ["AttentionDropout", "ContextDropout"]


class AttentionDropout(LiveRate):
    """Attention whose weights are dropped: after the softmax, before the product with the values.

    Queries are ``(batch, heads, length, dim)``; keys and values may have fewer heads, each shared by a group of
    query heads. ``mask`` is boolean, True where a query may look, and broadcasts to ``(batch, heads, length,
    keys)``.

    Example:
        >>> q = k = v = torch.randn(2, 4, 8, 16)
        >>> AttentionDropout(0.1)(q, k, v, is_causal=True).shape
        torch.Size([2, 4, 8, 16])
    """

    kind = "attention"

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Attend from ``q`` to ``k`` and return context vectors of the shape of ``q``."""
        if self.idle:
            return _attention(q, k, v, 0.0, mask, is_causal)
        if torch.compiler.is_compiling():
            return functional.attention(
                q, k, v, self.rate_tensor, self.host_rate_tensor, mask=mask, is_causal=is_causal
            )
        return _attention(q, k, v, self.rate, mask, is_causal)


class ContextDropout(LiveRate):
    """Attention whose context vectors are dropped: after the product with the values.

    Takes the place of ``AttentionDropout``, call for call. The weights stay whole, so the fused kernels run in
    training too.
    """

    kind = "context"

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Attend from ``q`` to ``k`` and return context vectors of the shape of ``q``."""
        context = _attention(q, k, v, 0.0, mask, is_causal)
        if self.idle:
            return context
        if torch.compiler.is_compiling():
            return functional.dropout(context, self.rate_tensor)
        return F.dropout(context, self.rate)


def _attention(q: Tensor, k: Tensor, v: Tensor, rate: float, mask: Tensor | None, is_causal: bool) -> Tensor:
    enable_gqa = bool(q.shape[1] != k.shape[1])
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=rate, is_causal=is_causal, enable_gqa=enable_gqa
    )
