"""What the overfitting monitor has measured, validation by validation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

__all__ = ["OverfittingRecord", "measured_metrics"]


class OverfittingRecord(NamedTuple):
    """One validation: ``values`` by the names they are logged under, and each site group's mean rate."""

    step: int
    epoch: int
    values: Mapping[str, float]
    rates: Mapping[str, float]


def measured_metrics(history: Iterable[OverfittingRecord]) -> list[str]:
    """Names of the metrics that have a gap, losses first.

    Example:
        >>> measured_metrics([OverfittingRecord(1, 0, {"overfit/gap_acc": 0.1, "overfit/gap_loss": 0.2}, {})])
        ['loss', 'acc']
    """
    prefix = "overfit/gap_"
    names = {name.removeprefix(prefix): None for record in history for name in record.values if name.startswith(prefix)}
    return sorted(names, key=lambda name: (name != "loss", "loss" not in name))
