"""Locked dropout: one mask for all time steps."""

from __future__ import annotations

from torch import Tensor

from lightning_dropout.layers.mask import drop
from lightning_dropout.layers.rate import LiveRate

__all__ = ["LockedDropout"]


class LockedDropout(LiveRate):
    """Drop the same features at every time step of a sequence (variational dropout, Gal & Ghahramani 2016).

    Every sample draws its own mask. ``time_dim`` is 1 for ``(batch, length, dim)`` and 0 for ``(length, batch, dim)``.

    Example:
        >>> import torch
        >>> x = LockedDropout(0.5)(torch.ones(2, 5, 8))
        >>> x.equal(x[:, :1].expand(2, 5, 8))
        True
    """

    kind = "locked"

    def __init__(self, rate: float, *, time_dim: int = 1) -> None:
        super().__init__(rate)
        self.time_dim = time_dim

    def forward(self, x: Tensor) -> Tensor:
        """Drop features of ``x``, shape ``(batch, length, dim)``."""
        if self.idle:
            return x
        shape = list(x.shape)
        shape[self.time_dim] = 1
        return drop(x, self.live_rate, shape)

    def extra_repr(self) -> str:
        """Rate and time dimension."""
        return f"{super().extra_repr()}, time_dim={self.time_dim}"
