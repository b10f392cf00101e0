"""Tell whether a dataset transforms its samples at random, by reading them twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.data import BatchSampler, DataLoader

from lightning_dropout_callbacks.rng_isolation import isolated_rng

__all__ = ["transforms_at_random"]

# Enough that flipping a coin for each sample is missed once in 256 runs.
_NUM_SAMPLES = 8


def transforms_at_random(loader: DataLoader[Any]) -> bool:
    """Whether samples of a map-style dataset differ from one reading to the next, before they are collated.

    Global random numbers go on as if nothing was read; those that a dataset keeps to itself do not.

    Example:
        >>> class Noisy(torch.utils.data.Dataset):
        ...     def __len__(self):
        ...         return 10
        ...     def __getitem__(self, index):
        ...         return index + torch.rand(()), 1
        >>> transforms_at_random(DataLoader(Noisy())), transforms_at_random(DataLoader(list(range(10))))
        (True, False)
    """
    dataset: Any = loader.dataset
    indices: Sequence[Any] = range(min(_NUM_SAMPLES, len(dataset)))
    if isinstance(loader.sampler, BatchSampler):
        indices = [list(indices)]  # a dataset that makes whole batches
    with isolated_rng(0):
        return any(_differ(_read(dataset, index), _read(dataset, index)) for index in indices)


def _read(dataset: Any, index: Any) -> Any:
    return dataset.__getitems__([index]) if hasattr(dataset, "__getitems__") else dataset[index]


def _differ(sample: Any, again: Any) -> bool:
    pairs = zip(tree_leaves(sample), tree_leaves(again), strict=False)
    return any(_are_numbers_that_differ(one, other) for one, other in pairs)


def _are_numbers_that_differ(one: Any, other: Any) -> bool:
    x, y = _numbers(one), _numbers(other)
    if x is None or y is None:
        return False
    return x.shape != y.shape or not torch.equal(x.nan_to_num(), y.nan_to_num())


def _numbers(leaf: Any) -> Tensor | None:
    if isinstance(leaf, Tensor):
        return leaf
    if not isinstance(leaf, (int, float)) and not hasattr(leaf, "__array_interface__"):  # which images have, too
        return None
    array = np.asarray(leaf)
    return torch.as_tensor(array) if array.dtype.kind in "biuf" else None
