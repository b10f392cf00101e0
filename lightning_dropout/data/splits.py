"""Which samples are for validation, as a function of the seed alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["split"]


def split(
    num_samples: int, fraction: float, *, seed: int, labels: NDArray[Any] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sorted indices of the training and of the validation samples.

    With ``labels`` of shape ``(num_samples,)`` every class is split by itself, and one that has two samples or more
    has one on either side.

    Example:
        >>> train, val = split(6, 0.34, seed=0, labels=np.array([0, 0, 0, 1, 1, 1]))
        >>> len(train), len(val), int((val < 3).sum())
        (4, 2, 1)
    """
    generator = np.random.default_rng(seed)
    groups = [np.arange(num_samples)]
    if labels is not None:
        groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    train, val = [], []
    for group in groups:
        num_val = min(max(round(fraction * len(group)), 1), len(group) - 1)
        order = generator.permutation(group)
        val.append(order[:num_val])
        train.append(order[num_val:])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(val))
