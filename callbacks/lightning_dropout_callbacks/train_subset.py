"""A fixed part of the training data, shared out over ranks."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from random import Random
from typing import Any

from torch.utils.data import BatchSampler, DataLoader, IterableDataset

__all__ = ["Replay", "first_loader", "full_batch_size", "only_loader", "train_subset"]


class Replay:
    """Batches that were read once, handed out again as they were read."""

    def __init__(self, batches: Sequence[Any]) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        # Copies, because a step may pop from a batch or write into it.
        return iter(map(copy.deepcopy, self._batches))


def train_subset(
    loader: Any,
    *,
    num_batches: int,
    batch_size: int,
    seed: int = 0,
    num_workers: int = 0,
    rank: int = 0,
    num_ranks: int = 1,
) -> DataLoader[Any] | Replay:
    """This rank's part of ``num_batches`` full batches of training data, in which no sample appears twice.

    Samples of a map-style dataset are chosen by ``seed``, whatever the loader's sampler does, except that a sampler
    with ``indices`` limits the choice to them. Of any other data, the first batches of a fresh iterator are kept.

    Raises:
        ValueError: If no fixed subset can be taken from ``loader``; the message is the reason.

    Example:
        >>> loader = DataLoader(range(100), batch_size=32, shuffle=True)
        >>> [batch.tolist() for batch in train_subset(loader, num_batches=2, batch_size=3)]
        [[49, 97, 53], [5, 33, 65]]
        >>> [batch.tolist() for batch in train_subset(loader, num_batches=2, batch_size=3, rank=1, num_ranks=2)]
        [[5, 33, 65]]
    """
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return Replay(_first_batches(loader, max(1, num_batches // num_ranks), batch_size))
    indices = _indices(loader)
    dataset_makes_batches = loader.batch_sampler is None
    if dataset_makes_batches and not isinstance(loader.sampler, BatchSampler):
        batch_size = 1
    batch_size = min(batch_size, len(indices) // num_ranks)
    if batch_size == 0:
        raise ValueError(f"{len(indices)} training samples are too few for {num_ranks} ranks")
    num_own = max(1, min(num_batches, len(indices) // batch_size) // num_ranks)
    chosen = Random(seed).sample(indices, num_own * num_ranks * batch_size)
    batches = [chosen[i : i + batch_size] for i in range(0, len(chosen), batch_size)][rank::num_ranks]
    kwargs: dict[str, Any] = {"collate_fn": loader.collate_fn, "num_workers": num_workers}
    if not dataset_makes_batches:
        return DataLoader(loader.dataset, batch_sampler=batches, **kwargs)
    sampler = batches if isinstance(loader.sampler, BatchSampler) else [index for (index,) in batches]
    return DataLoader(loader.dataset, batch_size=None, sampler=sampler, **kwargs)


def _indices(loader: DataLoader[Any]) -> Sequence[int]:
    """What may be chosen from, so that a split made by subset samplers keeps its validation samples out."""
    sampler = getattr(loader.batch_sampler, "sampler", loader.sampler)
    sampler = getattr(getattr(sampler, "dataset", None), "_sampler", sampler)  # Lightning's wrapper for several ranks
    if hasattr(sampler, "indices"):
        return sorted(map(int, sampler.indices))
    if not hasattr(loader.dataset, "__len__"):
        raise ValueError(f"{type(loader.dataset).__name__} has no length")
    return range(len(loader.dataset))


def _first_batches(loader: Any, num_batches: int, batch_size: int) -> list[Any]:
    source = loader.dataset if isinstance(loader, DataLoader) else loader
    if not isinstance(source, Iterable) or isinstance(source, Iterator) or _has_persistent_workers(source):
        raise ValueError(f"a {type(source).__name__} cannot be read without disturbing the training that reads it")
    if isinstance(loader, DataLoader):
        is_batched = loader.batch_size is not None
        loader = DataLoader(
            loader.dataset,
            batch_size=batch_size if is_batched else None,
            drop_last=is_batched,
            collate_fn=loader.collate_fn,
        )
    batches = list(islice(loader, num_batches))
    if not batches:
        raise ValueError(f"a {type(source).__name__} gives not one batch of {batch_size} samples")
    return batches


def _has_persistent_workers(source: Any) -> bool:
    """Whether a second iterator over what ``source`` wraps would reset the first."""
    return any(getattr(value, "persistent_workers", False) for value in getattr(source, "__dict__", {}).values())


def only_loader(loaders: Any) -> Any:
    """The training loader of a trainer that has one.

    Raises:
        ValueError: If it has several.
    """
    if isinstance(loaders, (list, tuple, dict)):
        if len(loaders) != 1:
            raise ValueError(f"training draws from {len(loaders)} loaders at once")
        return only_loader(next(iter(loaders.values() if isinstance(loaders, dict) else loaders)))
    return loaders


def first_loader(loaders: Any) -> Any:
    """The first of any collection of loaders."""
    while isinstance(loaders, (list, tuple, dict)) and loaders:
        loaders = next(iter(loaders.values() if isinstance(loaders, dict) else loaders))
    return loaders


def full_batch_size(loaders: Any) -> int | None:
    """The number of samples in a full batch of the first loader, if it says."""
    loader = first_loader(loaders)
    sampler = getattr(loader, "batch_sampler", None)
    return getattr(loader, "batch_size", None) or getattr(sampler, "batch_size", None)
