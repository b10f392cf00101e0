"""What a history of measurements says about the fit."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_dropout.metrics import FitJudge, FitState, gap_slope, overfitting_onset
from lightning_dropout.metrics.fit_state import FitLabel
from lightning_dropout_callbacks.overfitting_history import OverfittingRecord, measured_metrics, metric_curves

__all__ = ["STATES", "find_onset", "gap_slopes", "judge_fit", "judged_loss"]

#: The number under which a state is logged.
STATES: dict[FitLabel, float] = {"underfit": -1.0, "fit": 0.0, "overfit": 1.0}

_WINDOW = 5
_STEPS_PER_SLOPE = 1000


def judged_loss(history: Sequence[OverfittingRecord]) -> str | None:
    """The metric to judge by: ``loss``, or the first that is better when lower; None if there is none.

    Example:
        >>> values = {"overfit/train_mse": 1.0, "overfit/val_mse": 2.0, "overfit/gap_mse": 1.0}
        >>> judged_loss([OverfittingRecord(1, 0, values, {})])
        'mse'
    """
    metrics = measured_metrics(history)
    return next((metric for metric in metrics if not metric_curves(history, metric).higher_is_better), None)


def gap_slopes(history: Sequence[OverfittingRecord]) -> dict[str, float]:
    """What the gap of each metric grew by in 1,000 steps over the last 5 measurements; 0 after the first one."""
    slopes = {}
    for metric in measured_metrics(history[-1:]):
        curves = metric_curves(history[-_WINDOW:], metric)
        slope = gap_slope(curves.gap, curves.steps) if len(curves.steps) > 1 else 0.0
        slopes[metric] = _STEPS_PER_SLOPE * slope
    return slopes


def judge_fit(history: Sequence[OverfittingRecord], loss: str, judge: FitJudge) -> FitState:
    """The state after the last measurement of a loss that was measured.

    Raises:
        ValueError: If a validation loss is not above 0.
    """
    curves = metric_curves(history, loss)
    first, *others = zip(curves.train, curves.val, strict=True)
    state = judge(*first)
    for train, val in others:
        state = judge(train, val, state)
    return state


def find_onset(history: Sequence[OverfittingRecord], loss: str) -> int | None:
    """The step where the validation loss stopped improving while training went on."""
    curves = metric_curves(history, loss)
    return overfitting_onset(curves.train, curves.val, curves.steps)
