"""DropBlock: square blocks of feature maps are dropped."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_dropout.layers.mask import keep_mask
from lightning_dropout.layers.rate import LiveRate

__all__ = ["DropBlock2d"]


class DropBlock2d(LiveRate):
    """Drop blocks of ``block_size`` x ``block_size`` from every feature map on its own (DropBlock, Ghiasi et al. 2018).

    Blocks lie wholly inside the map and are seeded with the paper's rate

        gamma = rate / block_size**2 * (height * width) / ((height - block_size + 1) * (width - block_size + 1))

    which counts overlaps twice, so that somewhat less than ``rate`` is dropped; at rate 1 everything is. What is kept
    is scaled by count / count_ones over the whole batch: the mean over all positions stays, while the mean at one
    position is a little higher at the border, where fewer blocks reach, than inside. Block size 1 is element dropout,
    and a block as large as the map is channel dropout.

    Raises:
        ValueError: In ``forward``, if the map is smaller than the block.

    Example:
        >>> DropBlock2d(0.2, block_size=3)(torch.ones(2, 4, 8, 8)).mean().round(decimals=4)
        tensor(1.)
    """

    kind = "block"

    def __init__(self, rate: float, *, block_size: int = 7) -> None:
        super().__init__(rate)
        if block_size < 1:
            raise ValueError(f"DropBlock2d(block_size={block_size}) is no size. Give a whole number from 1.")
        self.block_size = block_size

    def forward(self, x: Tensor) -> Tensor:
        """Drop blocks of ``x``, shape ``(batch, channels, height, width)``."""
        height, width = x.shape[-2:]
        size = self.block_size
        if size > min(height, width):
            raise ValueError(
                f"DropBlock2d(block_size={size}) got a map of {height}x{width}. Give a block no larger than the map."
            )
        if self.idle:
            return x
        rate = torch.as_tensor(self.live_rate)
        num_places = (height - size + 1) * (width - size + 1)
        gamma = torch.where(rate < 1.0, rate / size**2 * (height * width / num_places), 1.0)
        seeds = ~keep_mask((*x.shape[:-2], height - size + 1, width - size + 1), gamma, x.device)
        reach = F.pad(seeds.float(), [size - 1] * 4)
        kept = F.max_pool2d(reach, size, stride=1) == 0.0
        scale = kept.numel() / kept.sum().clamp(min=1)
        return torch.where(kept, x * scale.to(x.dtype), 0.0)

    def extra_repr(self) -> str:
        """Rate and block size."""
        return f"{super().extra_repr()}, block_size={self.block_size}"
