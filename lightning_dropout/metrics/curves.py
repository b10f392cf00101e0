"""What the curves of a training run say about overfitting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import linear_regression

__all__ = ["gap_slope", "overfitting_onset"]


def gap_slope(gaps: Sequence[float], steps: Sequence[float] | None = None, *, window: int | None = None) -> float:
    """Slope of the least-squares line through the last ``window`` gaps, or all: what the gap grows by in one step.

    ``steps`` says where the gaps were measured; by default they are one step apart. Fewer than two gaps have no slope:
    it is ``nan``.

    Raises:
        ValueError: If gaps and steps differ in number, or if ``window`` is below 2.

    Example:
        >>> gap_slope([0.0, 0.5, 1.0], steps=[0, 100, 200])
        0.005
    """
    steps = range(len(gaps)) if steps is None else steps
    if len(gaps) != len(steps):
        raise ValueError(f"gap_slope() got {len(gaps)} gaps and {len(steps)} steps. Give one step for every gap.")
    if window is not None and window < 2:
        raise ValueError(f"gap_slope(window={window}): a slope needs a window of 2 or more.")
    if len(gaps) < 2:
        return float("nan")
    last = slice(-window if window else None, None)
    return linear_regression(steps[last], gaps[last]).slope


def overfitting_onset(
    train: Sequence[float],
    val: Sequence[float],
    steps: Sequence[int] | None = None,
    *,
    patience: int = 3,
    min_delta: float = 0.0,
    higher_is_better: bool = False,
) -> int | None:
    """The step where the validation metric was best, if training went on to improve without it; None if not.

    Measure ``train`` in eval mode. An onset needs ``patience`` measurements after the best one, the last of which are
    all worse than it by more than ``min_delta``, and a training metric that became better than it was at the best.
    Two curves that stop together are convergence, not overfitting. If validation improves later after all, the
    onset is None again or moves, so the answer for a finished run is final and the answer during a run is not.

    Args:
        train: Metric on training data, one value per measurement.
        val: The same metric on validation data, at the same steps.
        steps: Where they were measured; by default 0, 1, 2, ...
        patience: Number of worse measurements, without a break, that end the curve.
        min_delta: Differences up to this count as none, in the units of the metric.
        higher_is_better: Whether the metric is one to be maximised, such as an accuracy.

    Raises:
        ValueError: If the curves differ in length, or if ``patience`` is below 1.

    Example:
        >>> train, val = [1.0, 0.8, 0.6, 0.4, 0.2, 0.1], [1.1, 0.9, 0.8, 0.9, 1.0, 1.2]
        >>> overfitting_onset(train, val, steps=[0, 10, 20, 30, 40, 50])
        20
    """
    steps = range(len(val)) if steps is None else steps
    if not len(train) == len(val) == len(steps):
        raise ValueError(
            f"overfitting_onset() got {len(train)} training values, {len(val)} validation values and {len(steps)} "
            "steps. Give equally many."
        )
    if patience < 1:
        raise ValueError(f"overfitting_onset(patience={patience}): give 1 or more measurements.")
    if len(val) <= patience:
        return None
    train, val = _costs(train, higher_is_better), _costs(val, higher_is_better)
    best = min(range(len(val)), key=val.__getitem__)
    tail = val[best + 1 :][-patience:]
    has_worsened = len(tail) == patience and min(tail) > val[best] + min_delta
    went_on = min(train[best:]) < train[best] - min_delta
    return steps[best] if has_worsened and went_on else None


def _costs(values: Sequence[float], higher_is_better: bool) -> list[float]:
    return [math.inf if math.isnan(x) else -x if higher_is_better else x for x in values]
