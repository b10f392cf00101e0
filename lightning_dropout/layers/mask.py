"""The arithmetic of inverted dropout, with the rate as a float or as a 0-d tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_dropout.layers.uniform import uniform

__all__ = ["drop", "keep_mask", "keep_scale"]


def keep_mask(shape: Sequence[int], rate: float | Tensor, device: torch.device) -> Tensor:
    """Boolean mask of ``shape``, True where kept, each entry drawn on its own with probability ``1 - rate``.

    Drawn in fp32 whatever the input is: uniform numbers in bfloat16 are so coarse that a rate of .001 drops .0029.
    """
    draws = uniform(shape, device)
    # As a difference: a quarter of the bytes come out of a comparison of two tensors, so that the compiler takes it for
    # a reduction and keeps its result for the backward pass.
    return draws - rate >= 0.0 if isinstance(rate, Tensor) else draws >= rate


def keep_scale(rate: float | Tensor) -> float | Tensor:
    """``1 / (1 - rate)``, and 0 at rate 1, so that dropping everything gives zeros with finite gradients."""
    if isinstance(rate, Tensor):
        keep = 1.0 - rate
        return torch.where(keep > 0.0, 1.0 / keep, 0.0)
    return 1.0 / (1.0 - rate) if rate < 1.0 else 0.0


def drop(x: Tensor, rate: float | Tensor, shape: Sequence[int]) -> Tensor:
    """Drop entries of ``x`` with one mask of ``shape``, broadcast over ``x``, and scale what is kept."""
    return torch.where(keep_mask(shape, rate, x.device), x * keep_scale(rate), 0.0)
