"""What a history of measurements says about the fit."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_dropout.metrics import FitJudge, FitState, gap_slope, overfitting_onset
from lightning_dropout.metrics.fit_state import FitLabel
from lightning_dropout_callbacks.overfitting_history import OverfittingRecord, measured_metrics, metric_curves
from lightning_dropout_callbacks.trials import Trials

__all__ = ["STATES", "find_onset", "gap_slopes", "judge_state", "judged_loss"]

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


def judge_state(
    history: Sequence[OverfittingRecord], loss: str | None, judge: FitJudge, trials: Trials
) -> dict[str, float]:
    """What to log as ``overfit/state`` after the last measurement: nothing, or the state before, if it has no loss."""
    if loss is None:
        return {}
    what, advice = "tell whether the model overfits", "Pass loss=."
    if f"overfit/gap_{loss}" not in history[-1].values:
        trials.name(what, f"no {loss} was measured (found: {', '.join(measured_metrics(history))})", advice)
        return {}
    curves = metric_curves(history, loss)
    state: FitState | None = None
    try:
        for train, val in zip(curves.train, curves.val, strict=True):
            state = judge(train, val, state)
    except ValueError as error:
        trials.name(what, str(error), advice)
        return {name: value for name, value in history[-2:][0].values.items() if name == "overfit/state"}
    assert state is not None
    return {"overfit/state": STATES[state.label]}


def find_onset(history: Sequence[OverfittingRecord], loss: str) -> int | None:
    """The step where the validation loss stopped improving while training went on."""
    curves = metric_curves(history, loss)
    return overfitting_onset(curves.train, curves.val, curves.steps)
