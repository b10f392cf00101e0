"""What W&B shows of a fit besides its curves: charts, a table of rates, and the verdict in the summary."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger

from lightning_dropout_callbacks.overfitting_history import (
    MetricCurves,
    OverfittingRecord,
    measured_metrics,
    metric_curves,
)
from lightning_dropout_callbacks.overfitting_verdict import find_onset

__all__ = ["log_charts", "log_rates", "log_report", "onset_message", "verdict"]

_MAX_ROWS = 10_000


def log_charts(logger: WandbLogger, history: Sequence[OverfittingRecord]) -> None:
    """Log a chart for every metric: training data against validation data."""
    import wandb

    for metric in measured_metrics(history):
        curves = metric_curves(thinned(history, rows_each=2), metric)
        lines = {"training data, dropout off": curves.train, "validation data": curves.val}
        points = [
            [(step, value) for step, value in zip(curves.steps, line, strict=True) if not math.isnan(value)]
            for line in lines.values()
        ]
        chart = wandb.plot.line_series(
            [[step for step, _ in line] for line in points],
            [[value for _, value in line] for line in points],
            keys=list(lines),
            title=f"{metric}: training data against validation data",
            xname="training step",
        )
        logger.log_metrics({f"overfit/curves_{metric}": chart})  # type: ignore[dict-item]


def log_rates(logger: WandbLogger, history: Sequence[OverfittingRecord]) -> None:
    """Log a table with the rate of every site at every validation; of a long fit, at some."""
    records = thinned(history, rows_each=len(history[-1].site_rates))
    rows: list[list[Any]] = [
        [record.step, record.epoch, site, rate] for record in records for site, rate in record.site_rates.items()
    ]
    logger.log_table("dropout/rates", columns=["step", "epoch", "site", "rate"], data=rows)


def log_report(report: Path, logger: WandbLogger) -> None:
    """Log the report of a fit as a page of its own."""
    import wandb

    logger.log_metrics({"overfit/report": wandb.Html(str(report), inject=False)})  # type: ignore[dict-item]


def thinned(history: Sequence[OverfittingRecord], *, rows_each: int) -> Sequence[OverfittingRecord]:
    """Every so many of the records, the last among them: as many as a W&B table has room for.

    Example:
        >>> history = [OverfittingRecord(step, 0, {}, {}) for step in range(9)]
        >>> [record.step for record in thinned(history, rows_each=4_000)]
        [0, 4, 8]
    """
    every = math.ceil(len(history) * rows_each / _MAX_ROWS) or 1
    return history[::-1][::every][::-1]


def verdict(history: Sequence[OverfittingRecord], loss: str) -> dict[str, float | None]:
    """What the summary of a run says: when overfitting set in, and the gap where validation was best."""
    curves = metric_curves(history, loss)
    best = _best(curves)
    if best is None:
        return {}
    return {
        "overfit/onset_step": find_onset(history, loss),
        "overfit/best_step": curves.steps[best],
        f"overfit/best_val_{loss}": curves.val[best],
        f"overfit/best_gap_{loss}": curves.gap[best],
    }


def onset_message(history: Sequence[OverfittingRecord], loss: str) -> str:
    """What happened since overfitting set in, in a sentence."""
    curves = metric_curves(history, loss)
    best = _best(curves)
    assert best is not None
    return (
        f"Validation {loss} was best at step {curves.steps[best]:,}, at {curves.val[best]:.4g}. By step "
        f"{curves.steps[-1]:,} it went to {curves.val[-1]:.4g}, and on training data from {curves.train[best]:.4g} to "
        f"{curves.train[-1]:.4g}."
    )


def _best(curves: MetricCurves) -> int | None:
    known = [i for i, value in enumerate(curves.val) if not math.isnan(value)]
    sign = -1.0 if curves.higher_is_better else 1.0
    return min(known, key=lambda i: sign * curves.val[i], default=None)
