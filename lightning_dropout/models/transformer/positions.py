"""Rotary positions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["Rotary", "rotate"]


class Rotary(nn.Module):
    """The table of rotary positions (Su et al. 2021): a complex number of modulus 1 per position and frequency.

    Kept in fp32 whatever the model is cast to, and computed again after ``to_empty()``.
    """

    table: Tensor

    def __init__(self, head_dim: int, *, context_length: int, base: float) -> None:
        super().__init__()
        self.head_dim, self.context_length, self.base = head_dim, context_length, base
        self.register_buffer("table", torch.empty(context_length, head_dim // 2, 2), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Compute the table on the device where it is."""
        if self.table.is_meta:
            return
        device = self.table.device
        exponents = torch.arange(0, self.head_dim, 2, device=device, dtype=torch.float32) / self.head_dim
        angles = torch.outer(torch.arange(self.context_length, device=device), self.base**-exponents)
        self.table = torch.stack((angles.cos(), angles.sin()), dim=-1)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Rotary:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.reset_parameters()
        return self

    def forward(self, positions: Tensor | slice) -> Tensor:
        """The entries of ``positions``, ready for ``rotate``."""
        return self.table[positions]


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Rotate neighbouring pairs of ``x``, ``(batch, length, heads, dim)``, by ``rotation``, ``(length, dim / 2, 2)``.

    ``rotation`` may have a batch dimension, where positions differ between the samples.
    """
    pairs = x.to(torch.promote_types(x.dtype, torch.float32)).view(*x.shape[:-1], -1, 2)
    rotation = rotation.unsqueeze(-3)
    if torch.compiler.is_compiling():  # inductor fuses plain operations, but has no code for complex ones
        (a, b), (cos, sin) = pairs.unbind(-1), rotation.unbind(-1)
        rotated = torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1)
    else:
        rotated = torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(rotation))
    return rotated.flatten(-2).to(x.dtype)
