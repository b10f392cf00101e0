"""Gaussian dropout: multiplicative noise."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_dropout.layers.rate import LiveRate

__all__ = ["GaussianDropout"]


class GaussianDropout(LiveRate):
    """Multiply by noise from N(1, rate / (1 - rate)): the mean and variance of dropout (Srivastava et al. 2014).

    Nothing is exactly zero, except at rate 1: there the variance has no bound, and the layer gives zeros as dropout.

    Example:
        >>> import torch
        >>> GaussianDropout(1.0)(torch.ones(3))
        tensor([0., 0., 0.])
    """

    kind = "gaussian"

    def forward(self, x: Tensor) -> Tensor:
        """Multiply every entry of ``x`` by a draw of its own."""
        if self.idle:
            return x
        rate = torch.as_tensor(self.live_rate)
        deviation = torch.where(rate < 1.0, (rate / (1.0 - rate)).sqrt(), 0.0)
        noise = 1.0 + deviation * torch.randn(x.shape, device=x.device, dtype=torch.float32)
        return (x * noise * (rate < 1.0)).to(x.dtype)
