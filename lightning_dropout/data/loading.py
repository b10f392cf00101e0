"""What the loaders of all data modules have in common."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from lightning_dropout.data.loader import ResumableLoader

__all__ = ["check_counts", "check_fraction", "evaluation_loader", "ranks", "training_loader"]


def training_loader(
    dataset: Dataset[Any],
    sampler: DistributedSampler[Any],
    trainer: Trainer | None,
    *,
    batch_size: int,
    num_workers: int,
) -> ResumableLoader:
    """Full batches in the order of ``sampler``; one batch a epoch if there are fewer samples than ``batch_size``."""
    return ResumableLoader(
        dataset,
        min(batch_size, len(sampler)),
        sampler=sampler,
        trainer=trainer,
        drop_last=True,
        **_options(num_workers=num_workers, seed=sampler.seed),
    )


def evaluation_loader(
    dataset: Dataset[Any], trainer: Trainer | None, *, batch_size: int, num_workers: int, drop_last: bool = False
) -> DataLoader[Any]:
    """All samples in order, shared out over the ranks; fewer than the number of ranks are left out at the end."""
    sampler: DistributedSampler[Any] = DistributedSampler(dataset, shuffle=False, drop_last=True, **ranks(trainer))
    return DataLoader(
        dataset,
        min(batch_size, len(sampler)),
        sampler=sampler,
        drop_last=drop_last,
        **_options(num_workers=num_workers, seed=0),
    )


def ranks(trainer: Trainer | None) -> dict[str, Any]:
    """The data-parallel rank and the number of them, as samplers take them."""
    kwargs = trainer.distributed_sampler_kwargs if trainer is not None else None
    return kwargs or {"num_replicas": 1, "rank": 0}


def _options(*, num_workers: int, seed: int) -> dict[str, Any]:
    """Arguments of a DataLoader that leave the global random state alone."""
    return {
        "num_workers": num_workers,
        "persistent_workers": num_workers > 0,
        # Without it every new iterator would draw from the global random state.
        "generator": torch.Generator().manual_seed(seed),
    }


def check_counts(owner: str, *, at_least: int = 1, **counts: int) -> None:
    """Refuse what is not a whole number from ``at_least`` on that fits into 64 bits."""
    for name, count in counts.items():
        if not at_least <= count < 2**63:
            raise ValueError(f"{owner}({name}): found {count}. Give a whole number from {at_least} on.")


def check_fraction(owner: str, **fractions: float) -> None:
    """Refuse what is not a share inside (0, 1)."""
    for name, fraction in fractions.items():
        if not 0.0 < fraction < 1.0:
            raise ValueError(f"{owner}({name}): found {fraction}. Give a share inside (0, 1).")
