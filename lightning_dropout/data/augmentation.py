"""Random changes of training images that depend on seed, epoch and image alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DistributedSampler

__all__ = ["Augmentation", "Visit", "VisitSampler"]


class Visit(NamedTuple):
    """One sample in one epoch of training: the index that asks a dataset for an augmented image."""

    sample: int
    epoch: int


class VisitSampler(DistributedSampler[Any]):
    """A DistributedSampler that says the epoch with every index."""

    def __iter__(self) -> Iterator[Visit]:
        return (Visit(index, self.epoch) for index in super().__iter__())


@dataclass(frozen=True)
class Augmentation:
    """Crop at random places out of padded images, and mirror some from left to right.

    Args:
        crop_padding: Pixels of zeros on each side before the crop to the old size.
        flip: Probability of mirroring.
        seed: Non-negative; decides together with the visit of each image.

    Example:
        >>> image = torch.arange(4.0).view(1, 1, 2, 2)
        >>> Augmentation(crop_padding=0, flip=1.0, seed=0)(image, [Visit(0, epoch=3)])
        tensor([[[[1., 0.],
                  [3., 2.]]]])
    """

    crop_padding: int
    flip: float
    seed: int

    def __call__(self, images: Tensor, visits: Sequence[Visit]) -> Tensor:
        """Images of the same shape ``(batch, channels, height, width)``."""
        height, width = images.shape[-2:]
        generators = [np.random.default_rng((self.seed, visit.epoch, visit.sample)) for visit in visits]
        draws = np.stack([generator.random(3) for generator in generators])
        top, left = torch.from_numpy((draws[:, :2] * (2 * self.crop_padding + 1)).astype(np.int64)).T[..., None]
        rows, columns = top + torch.arange(height), left + torch.arange(width)
        mirrored = torch.from_numpy(draws[:, 2] < self.flip)[:, None]
        columns = torch.where(mirrored, columns.flip(1), columns)
        padded = F.pad(images, [self.crop_padding] * 4)
        batch = torch.arange(len(images))
        # Indices on both sides of a slice put the channels last.
        return padded[batch[:, None, None], :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1).contiguous()
