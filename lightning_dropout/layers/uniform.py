"""Uniform random numbers: drawn in eager code, computed from two drawn numbers in compiled code.

Compiled code that draws a mask has to keep it for the backward pass, and on the CPU inductor neither draws, stores nor
loads it with vector instructions. What is computed from a small key can be computed again: the compiler fuses it
into the kernels around it, forward and backward, and no mask is ever in memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["uniform"]

_NUM_BITS = 32


def uniform(shape: Sequence[int], device: torch.device) -> Tensor:
    """Numbers in [0, 1), multiples of ``2**-24``, each drawn on its own; fp32 of ``shape``.

    Example:
        >>> 0.0 <= uniform((), torch.device("cpu")).item() < 1.0
        True
    """
    if not torch.compiler.is_compiling():
        return torch.rand(shape, device=device, dtype=torch.float32)
    *leading, length = shape or (1,)
    first, second = torch.randint(-(2**31), 2**31, (2,), dtype=torch.int32, device=device).unbind()
    # Rows and columns are numbered apart. One number for every element would be the same tensor for all sites of one
    # size, and of what such a tensor is used for the compiler keeps each first result for the backward pass.
    rows = _mixed(torch.arange(math.prod(leading), dtype=torch.int32, device=device) ^ first)
    columns = _mixed(torch.arange(length, dtype=torch.int32, device=device) ^ second)
    bits = _mixed(rows.view(*leading, 1) + columns)
    return (_shifted(bits, 8) * 2.0**-24).view(shape)


def _mixed(bits: Tensor) -> Tensor:
    """A permutation of the numbers of 32 bits that looks random; shifts and constants by C. Wellons ("lowbias32")."""
    bits = (bits ^ _shifted(bits, 16)) * 0x7FEB352D
    bits = (bits ^ _shifted(bits, 15)) * -0x7B935975
    return bits ^ _shifted(bits, 16)


def _shifted(bits: Tensor, by: int) -> Tensor:
    """Shifted right, with zeros from the left: the shift of a signed number fills with its sign."""
    shifted: Tensor = (bits >> by) & (2 ** (_NUM_BITS - by) - 1)
    return shifted
