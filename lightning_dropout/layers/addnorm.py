"""Add & Norm: the residual connection around a sublayer, with its norm and its dropout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from lightning_dropout.layers.dropout import Dropout

__all__ = ["AddNorm"]


class AddNorm(nn.Module):
    """Add the output of a sublayer to its input, normalise and drop.

    ``position`` says where the norm stands: ``"pre"`` on the sublayer's input, ``"post"`` on the sum (Vaswani et al.
    2017), ``"sublayer"`` on the sublayer's output, before it is added. ``drop_on`` says what loses entries: the
    ``"branch"``, just before it is added, or the ``"sum"``, before its norm where it has one. Dropping the sum also
    breaks the identity path, so that noise adds up over depth: keep the rate small.

    Example:
        >>> import torch
        >>> block = AddNorm(nn.LayerNorm(8), 0.1, position="post")
        >>> ff = nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 8))
        >>> block(torch.randn(2, 5, 8), ff).shape
        torch.Size([2, 5, 8])
    """

    def __init__(
        self,
        norm: nn.Module,
        rate: float,
        *,
        position: Literal["pre", "post", "sublayer"] = "pre",
        drop_on: Literal["branch", "sum"] = "branch",
    ) -> None:
        super().__init__()
        if position not in ("pre", "post", "sublayer"):
            raise ValueError(f"AddNorm(position={position!r}) is unknown. Give 'pre', 'post' or 'sublayer'.")
        if drop_on not in ("branch", "sum"):
            raise ValueError(f"AddNorm(drop_on={drop_on!r}) is unknown. Give 'branch' or 'sum'.")
        self.norm, self.dropout = norm, Dropout(rate)
        self.position, self.drop_on = position, drop_on

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Run ``sublayer`` inside its residual connection; ``x`` is ``(batch, length, dim)``."""
        branch = sublayer(self.norm(x) if self.position == "pre" else x)
        if self.position == "sublayer":
            branch = self.norm(branch)
        total: Tensor = x + self.dropout(branch) if self.drop_on == "branch" else self.dropout(x + branch)
        return self.norm(total) if self.position == "post" else total

    def extra_repr(self) -> str:
        """Where the norm and the dropout stand."""
        return f"position={self.position}, drop_on={self.drop_on}"
