"""Mixup: train on convex combinations of samples and of their labels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Beta

__all__ = ["mixup"]


def mixup(inputs: Tensor, targets: Tensor, *, num_classes: int, alpha: float) -> tuple[Tensor, Tensor]:
    """Blend every sample with a partner, by one draw from Beta(alpha, alpha) for the batch (Zhang et al. 2018).

    The partner is the sample that stands at the same place from the end, which in a shuffled batch is a random one.

    Args:
        inputs: Samples, ``(batch, ...)``, floating point.
        targets: Class indices, ``(batch,)``.
        num_classes: Width of the blended targets.
        alpha: Strength: .2 blends little, 1 draws every blend with equal probability.

    Returns:
        Blended inputs, and class probabilities ``(batch, num_classes)``.

    Example:
        >>> import torch
        >>> _, targets = mixup(torch.randn(2, 3), torch.tensor([0, 1]), num_classes=2, alpha=0.2)
        >>> targets.sum(dim=1)
        tensor([1., 1.])
    """
    weight = Beta(alpha, alpha).sample().item()
    probabilities = F.one_hot(targets, num_classes).to(inputs.dtype)
    return inputs.lerp(inputs.flip(0), weight), probabilities.lerp(probabilities.flip(0), weight)
