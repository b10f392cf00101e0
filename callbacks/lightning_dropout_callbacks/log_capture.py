"""Record what a module logs, and reduce it over batches and ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from lightning.pytorch.utilities.data import extract_batch_size
from torch import Tensor
from torchmetrics import Metric

__all__ = ["LogCapture", "Share", "gather", "merge"]


_REDUCTIONS: dict[str, Callable[..., float]] = {"sum": math.fsum, "min": min, "max": max}


class Share(NamedTuple):
    """One rank's part of a logged value: where ranks are averaged, it counts ``weight`` samples."""

    value: float
    weight: float = 1.0
    reduction: str = "mean"


def merge(shares: Iterable[Share]) -> float:
    """The value over all ranks.

    Example:
        >>> merge([Share(1.0, weight=3), Share(5.0, weight=1)])
        2.0
    """
    values, weights, reductions = zip(*shares, strict=True)
    if reductions[0] != "mean":
        return _REDUCTIONS[reductions[0]](values)
    total = sum(weights)
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / total if total else math.nan


def gather(value: Any) -> list[Any]:
    """What every rank passed here, on every rank."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [value]
    values = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values


@dataclass
class _Entry:
    reduction: str
    is_synced: bool
    higher_is_better: bool | None = None
    metric: Metric | None = None
    values: list[Tensor] = field(default_factory=list)
    weights: list[int] = field(default_factory=list)

    def share(self) -> Share | None:
        if self.metric is not None:
            value = self.metric.compute()
            return Share(float(value)) if isinstance(value, Tensor) and value.numel() == 1 else None
        values = torch.stack([value.reshape(()) for value in self.values]).cpu().double()
        if self.reduction != "mean":
            return Share(float(getattr(torch, self.reduction)(values)), reduction=self.reduction)
        weights = torch.tensor(self.weights, dtype=torch.float64)
        return Share(float((values * weights).sum() / weights.sum()), weight=float(weights.sum()))


class LogCapture:
    """Stands in for Lightning's own accumulation of logged values on one rank, with its rules and without its effects.

    A ``torchmetrics.Metric`` is computed, and so synchronised over ranks, when the values are collected.
    """

    def __init__(self) -> None:
        #: By the name under which Lightning would show it in ``trainer.callback_metrics``.
        self.shares: dict[str, Share] = {}
        self.batch: Any = None
        self.dataloader_idx: int | None = None
        self._open: dict[str, _Entry] = {}
        self._closed: dict[str, _Entry] = {}

    def log(
        self,
        name: str,
        value: Metric | Tensor | float,
        *,
        on_epoch: bool | None,
        reduce_fx: str | Callable[..., Any],
        sync_dist: bool,
        add_dataloader_idx: bool,
        batch_size: int | None,
    ) -> None:
        """Take in one call of ``LightningModule.log``."""
        if on_epoch is False:
            return
        if add_dataloader_idx and self.dataloader_idx is not None:
            name = f"{name}/dataloader_idx_{self.dataloader_idx}"
        if isinstance(value, Metric):
            better = value.higher_is_better
            self._open[name] = _Entry("mean", is_synced=True, higher_is_better=better, metric=value)
            return
        reduction = reduce_fx.lower() if isinstance(reduce_fx, str) else reduce_fx.__name__
        reduction = "mean" if reduction == "avg" else reduction
        if batch_size is None:
            batch_size = extract_batch_size(self.batch) if self.batch is not None and reduction == "mean" else 1
        entry = self._open.setdefault(name, _Entry(reduction, is_synced=sync_dist))
        entry.values.append(torch.as_tensor(value).detach().clone())
        entry.weights.append(batch_size)

    def collect(self) -> None:
        """Compute what was logged since the last call, as Lightning does at the end of a loader and of an epoch."""
        for name, entry in self._open.items():
            share = entry.share()
            if share is not None:
                self.shares[name], self._closed[name] = share, entry
        self._open = {}

    def is_reduced_over_ranks(self, name: str) -> bool:
        """Whether Lightning's own value of this name is the same on all ranks."""
        return self._closed[name].is_synced

    def higher_is_better(self, name: str) -> bool | None:
        """What the logged torchmetrics object says about itself, if it was one."""
        return self._closed[name].higher_is_better
