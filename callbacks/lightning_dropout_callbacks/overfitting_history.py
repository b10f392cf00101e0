"""What the overfitting monitor has measured, validation by validation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

__all__ = ["MetricCurves", "OverfittingRecord", "extended", "measured_metrics", "metric_curves"]


class OverfittingRecord(NamedTuple):
    """One validation: ``values`` by the names they are logged under, each site group's mean rate, and each site's."""

    step: int
    epoch: int
    values: Mapping[str, float]
    rates: Mapping[str, float]
    site_rates: Mapping[str, float] = {}


class MetricCurves(NamedTuple):
    """What was measured of one metric: as many values as steps, ``nan`` where one is missing or not finite.

    ``noise`` is what dropout adds to the training side.
    """

    steps: Sequence[int]
    train: Sequence[float]
    val: Sequence[float]
    gap: Sequence[float]
    noise: Sequence[float]

    @property
    def higher_is_better(self) -> bool:
        """What the sign of the gap says."""
        return any(gap * (val - train) < 0 for train, val, gap in zip(self.train, self.val, self.gap, strict=True))


def extended(history: Iterable[OverfittingRecord], record: OverfittingRecord) -> list[OverfittingRecord]:
    """The history with a new record, without those that it undoes by going back, to a checkpoint or to a new fit.

    Site rates that stayed are kept once, in memory and in checkpoints.
    """
    kept = [old for old in history if old.step < record.step]
    if kept and kept[-1].site_rates == record.site_rates:
        record = record._replace(site_rates=kept[-1].site_rates)
    return [*kept, record]


def measured_metrics(history: Iterable[OverfittingRecord]) -> list[str]:
    """Names of the metrics that have a gap, losses first.

    Example:
        >>> measured_metrics([OverfittingRecord(1, 0, {"overfit/gap_acc": 0.1, "overfit/gap_loss": 0.2}, {})])
        ['loss', 'acc']
    """
    prefix = "overfit/gap_"
    names = {name.removeprefix(prefix): None for record in history for name in record.values if name.startswith(prefix)}
    return sorted(names, key=lambda name: (name != "loss", "loss" not in name))


def metric_curves(history: Iterable[OverfittingRecord], metric: str) -> MetricCurves:
    """The curves of a metric, over the validations that measured it."""
    records = [record for record in history if f"overfit/gap_{metric}" in record.values]

    def curve(kind: str) -> list[float]:
        values = (record.values.get(f"overfit/{kind}_{metric}", math.nan) for record in records)
        return [value if math.isfinite(value) else math.nan for value in values]

    return MetricCurves([record.step for record in records], *map(curve, ("train", "val", "gap", "dropout_noise")))
