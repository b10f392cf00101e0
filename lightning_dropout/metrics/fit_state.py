"""Whether a model underfits, fits or overfits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = ["FitJudge", "FitLabel", "FitState"]

FitLabel = Literal["underfit", "fit", "overfit"]

# Improvements of the validation loss below this share of it are noise.
_MIN_IMPROVEMENT = 0.002


class FitState(NamedTuple):
    """The verdict after a measurement, and all that the next one needs to know.

    ``train`` and ``val`` are the smoothed losses, ``best`` the lowest ``val`` so far, ``num_stale`` the number of
    measurements since then.
    """

    label: FitLabel
    train: float
    val: float
    best: float
    num_stale: int

    @property
    def gap_share(self) -> float:
        """The gap as a share of the validation loss: 0 where both losses are equal, 1 where none is left on train."""
        return (self.val - self.train) / self.val


@dataclass(frozen=True)
class FitJudge:
    """Tells from two losses whether a model underfits, fits or overfits.

    The gap says which way a model errs, and whether the validation loss still improves says if that matters now. A gap
    above ``target`` is overfitting once validation has stopped improving; a gap below it is underfitting as long as
    validation improves, because then learning is what holds the model back. Anything else fits.

    The verdict has hysteresis: it starts where the gap is beyond the target by ``band``, and ends at the target.

    Args:
        target: Gap, as a share of the validation loss, that a model may have.
        band: Half-width of the dead band around the target, as a share of it.
        patience: Number of measurements without a new best validation loss that count as no improvement.
        smoothing: Weight of the latest measurement in the running mean of each loss.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> judge, state = FitJudge(), None
        >>> for train, val in [(1.0, 1.1), (0.5, 0.7), (0.2, 0.8), (0.1, 0.9), (0.1, 1.0), (0.1, 1.0)]:
        ...     state = judge(train, val, state)
        ...     print(state.label, round(state.gap_share, 2))
        underfit 0.09
        underfit 0.17
        fit 0.44
        fit 0.67
        fit 0.79
        overfit 0.85
    """

    target: float = 0.25
    band: float = 0.2
    patience: int = 3
    smoothing: float = 0.5

    def __post_init__(self) -> None:
        """Check the arguments."""
        if not 0.0 < self.target < 1.0:
            raise ValueError(f"target is {self.target}. Give the gap as a share of the validation loss, in (0, 1).")
        if not 0.0 <= self.band < 1.0:
            raise ValueError(f"band is {self.band}. Give a share of the target, in [0, 1).")
        if self.patience < 1:
            raise ValueError(f"patience is {self.patience}. Give 1 or more measurements.")
        if not 0.0 < self.smoothing <= 1.0:
            raise ValueError(f"smoothing is {self.smoothing}. Give a weight in (0, 1].")

    def __call__(self, train: float, val: float, previous: FitState | None = None) -> FitState:
        """The state after a measurement of both losses in eval mode; one that is no number counts as none improved.

        Raises:
            ValueError: If the validation loss is not above 0, so that there is nothing to take a share of.
        """
        if not (math.isfinite(train) and math.isfinite(val)):
            if previous is None:
                return FitState("fit", math.inf, math.inf, math.inf, 1)
            return previous._replace(num_stale=previous.num_stale + 1)
        if val <= 0.0:
            raise ValueError(f"The validation loss is {val}. The share of a gap needs a loss above 0.")
        if previous is None or not math.isfinite(previous.val):
            state = FitState("fit", train, val, val, 0)
        else:
            train = previous.train + self.smoothing * (train - previous.train)
            val = previous.val + self.smoothing * (val - previous.val)
            is_better = val < previous.best * (1.0 - _MIN_IMPROVEMENT)
            best, num_stale = (val, 0) if is_better else (previous.best, previous.num_stale + 1)
            state = FitState(previous.label, train, val, best, num_stale)
        return state._replace(label=self._label(state))

    def _label(self, state: FitState) -> FitLabel:
        improves = state.num_stale < self.patience
        excess = state.gap_share / self.target - 1.0
        if not improves and excess > (0.0 if state.label == "overfit" else self.band):
            return "overfit"
        if improves and excess < (0.0 if state.label == "underfit" else -self.band):
            return "underfit"
        return "fit"
