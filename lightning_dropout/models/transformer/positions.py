"""Where a token stands: learned, sinusoidal and rotary positions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from lightning_dropout.models.transformer.config import TransformerConfig
from lightning_dropout.models.transformer.options import RotaryConfig, RotaryScaling
from lightning_dropout.models.transformer.projection import Embedding

__all__ = ["LearnedPositions", "Positions", "Rotary", "SinusoidalPositions", "make_positions", "rotate"]

#: A range of positions that all rows share, or positions of shape ``(batch, length)``.
Positions: TypeAlias = slice | Tensor


class LearnedPositions(Embedding):
    """One learned vector per position."""

    def forward(self, positions: Positions) -> Tensor:
        """The vectors of ``positions``."""
        return self.weight[positions]


class _Table(nn.Module):
    """A table that is computed, not learned: kept in fp32 whatever the model is cast to, never saved or left empty."""

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.empty(0), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Compute the table on the device where it is."""
        self.table = self.compute(self.table.device)

    def compute(self, device: torch.device) -> Tensor:
        """The table, one row per position."""
        raise NotImplementedError

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> _Table:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.reset_parameters()  # a cast has rounded it, to_empty() has lost it
        return self

    def forward(self, positions: Positions) -> Tensor:
        """The rows of ``positions``."""
        return self.table[positions]


class SinusoidalPositions(_Table):
    """Sines and cosines of the position at many wavelengths (Vaswani et al. 2017).

    Scaled to have the standard deviation of the embeddings that they are added to.
    """

    def __init__(self, num_positions: int, dim: int, *, std: float) -> None:
        self.num_positions, self.dim, self.std = num_positions, dim, std
        super().__init__()

    def compute(self, device: torch.device) -> Tensor:
        """The table, ``(positions, dim)``: sines in the even columns, cosines in the odd ones."""
        angles = _angles(self.num_positions, _frequencies(self.dim, 10000.0, device))
        waves = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)[:, : self.dim]
        return waves * (self.std * math.sqrt(2.0))


class Rotary(_Table):
    """Rotary positions (Su et al. 2021): a turn, as cosine and sine, per position and frequency."""

    def __init__(self, num_positions: int, head_dim: int, config: RotaryConfig) -> None:
        self.num_positions, self.head_dim, self.config = num_positions, head_dim, config
        super().__init__()

    def compute(self, device: torch.device) -> Tensor:
        """The table, ``(positions, 1, dim / 2, 2)``."""
        frequencies = _frequencies(self.head_dim, self.config.base, device)
        if self.config.scaling is not None:
            frequencies = _stretch(frequencies, self.config.scaling)
        angles = _angles(self.num_positions, frequencies)
        return torch.stack((angles.cos(), angles.sin()), dim=-1).unsqueeze(1)

    def forward(self, positions: Positions) -> Tensor:
        """The turns of ``positions`` as ``rotate`` wants them: complex numbers where nothing is compiled."""
        turns = super().forward(positions)
        # Inductor fuses real operations, but has no code for complex ones; eager code is three times faster with them.
        return turns if torch.compiler.is_compiling() else torch.view_as_complex(turns)


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Turn neighbouring pairs of ``x``, ``(batch, length, heads, dim)``, in fp32 or wider."""
    pairs = x.view(*x.shape[:-1], -1, 2)
    if pairs.dtype in (torch.float16, torch.bfloat16):
        pairs = pairs.float()
    if turns.is_complex():
        turned = torch.view_as_real(torch.view_as_complex(pairs) * turns)
    else:
        (a, b), (cos, sin) = pairs.unbind(-1), turns.unbind(-1)
        turned = torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1)
    return turned.flatten(-2).to(x.dtype)


def make_positions(config: TransformerConfig) -> LearnedPositions | SinusoidalPositions | None:
    """The vectors that ``config`` adds to the embeddings, if any."""
    if config.position == "rotary":
        return None
    kind = LearnedPositions if config.position == "learned" else SinusoidalPositions
    return kind(config.num_positions, config.dim, std=config.embedding_std)


def _frequencies(dim: int, base: float, device: torch.device) -> Tensor:
    exponents = torch.arange(0, dim, 2, device=device, dtype=torch.float32) / dim
    return 1.0 / base**exponents


def _angles(num_positions: int, frequencies: Tensor) -> Tensor:
    return torch.outer(torch.arange(num_positions, device=frequencies.device, dtype=torch.float32), frequencies)


def _stretch(frequencies: Tensor, scaling: RotaryScaling) -> Tensor:
    num_turns = scaling.original_context_length * frequencies / (2 * math.pi)
    share = (num_turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    share = share.clamp(0.0, 1.0)
    return frequencies * (share + (1.0 - share) / scaling.factor)
