"""DropHead: whole attention heads are dropped."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_dropout.layers.rate import LiveRate

__all__ = ["HeadDropout"]


class HeadDropout(LiveRate):
    """Drop whole attention heads of each sample and scale the others by heads / kept (DropHead, Zhou et al. 2020).

    A sample that would lose all its heads keeps one of them, chosen at random: the mean over masks is then exactly
    the input, and the fraction dropped is ``rate - rate**heads / heads``. Only rate 1 gives zeros.

    Example:
        >>> heads = HeadDropout(0.5)(torch.ones(2, 8, 5, 16))
        >>> heads.mean(dim=(1, 2, 3)).round(decimals=4)
        tensor([1., 1.])
    """

    kind = "attn_head"

    def forward(self, x: Tensor) -> Tensor:
        """Drop heads of ``x``, the context vectors of shape ``(batch, heads, length, dim)``."""
        if self.idle:
            return x
        num_heads, rate = x.shape[1], self.live_rate
        draws = torch.rand(*x.shape[:2], 1, 1, device=x.device)
        kept = (draws >= rate) | (draws == draws.amax(dim=1, keepdim=True))
        scale = num_heads / kept.sum(dim=1, keepdim=True) * (rate < 1.0)
        return torch.where(kept, x * scale.to(x.dtype), 0.0)
