"""Stochastic depth: residual branches are dropped."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from lightning_dropout.layers.mask import drop
from lightning_dropout.layers.rate import LiveRate

__all__ = ["DropPath"]


class DropPath(LiveRate):
    """Drop a residual branch, ``x + drop_path(branch(x))`` (stochastic depth, Huang et al. 2016).

    A branch that is kept is scaled by ``1 / (1 - rate)``, so that nothing changes in eval. With ``mode="row"`` every
    sample draws for itself, with ``mode="batch"`` the whole batch draws once.

    Example:
        >>> import torch
        >>> DropPath(1.0)(torch.ones(2, 3))
        tensor([[0., 0., 0.],
                [0., 0., 0.]])
    """

    kind = "path"

    def __init__(self, rate: float, *, mode: Literal["row", "batch"] = "row") -> None:
        super().__init__(rate)
        if mode not in ("row", "batch"):
            raise ValueError(f"DropPath(mode={mode!r}) is unknown. Give 'row' or 'batch'.")
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        """Drop from ``x``, the output of the branch, shape ``(batch, ...)``."""
        if self.idle:
            return x
        num_draws = x.shape[0] if self.mode == "row" else 1
        return drop(x, self.live_rate, (num_draws, *(1,) * (x.dim() - 1)))

    def extra_repr(self) -> str:
        """Rate and mode."""
        return f"{super().extra_repr()}, mode={self.mode}"
