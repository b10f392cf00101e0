"""The control law of adaptive dropout: from losses to a rate, in plain numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lightning_dropout.metrics import FitJudge, FitState

__all__ = ["RateController"]

# Speeds, in -log(keep probability) per whole fit. Lowering is slower: what underfits loses time, what memorises
# cannot be made to forget.
_RAISE, _LOWER = 6.0, 3.0
# One decision counts for no more than this share of the fit, however rarely there is one.
_MAX_ELAPSED = 0.05
_WARMUP = 0.05


class RateController:
    """Raises a dropout rate while a model overfits, lowers it while it underfits, and holds it otherwise.

    It moves ``-log(1 - rate)``, in which equal steps multiply the share that is kept, from 0 on and up to any rate. The
    speed is measured in training progress, so that it does not depend on how often there is a decision, and grows with
    the excess of the gap, up to twice the target. Nothing accumulates at a bound, so the rate leaves it at once.

    Nothing is decided in the first 5% of a fit, where losses say little. In the last share of it, ``cooldown``, the
    rate goes to its lower bound: what is left of a fit is then too short to memorise anything, and weights that were
    trained with much noise gain from some steps without (annealed dropout, Rennie et al. 2014).

    Args:
        rate: Where to start.
        bounds: Lowest and highest rate.
        judge: Tells whether the model overfits.
        cooldown: Share of the fit over which the rate goes down at its end; 0 for none.

    Raises:
        ValueError: If an argument is out of range, or the start is out of bounds.

    Example:
        >>> controller = RateController(0.1)
        >>> for progress in (0.1, 0.2, 0.3, 0.4, 0.5):
        ...     reason = controller.decide(train=0.2, val=0.8, progress=progress)
        ...     print(f"{controller.rate:.2f} {reason}")
        0.10 holds, fit: the gap is 75% of the validation loss (target 25%), which improves
        0.10 holds, fit: the gap is 75% of the validation loss (target 25%), which improves
        0.10 holds, fit: the gap is 75% of the validation loss (target 25%), which improves
        0.33 rises, overfit: the gap is 75% of the validation loss (target 25%), which has not improved 3 times
        0.51 rises, overfit: the gap is 75% of the validation loss (target 25%), which has not improved 4 times
    """

    def __init__(
        self,
        rate: float,
        *,
        bounds: tuple[float, float] = (0.0, 0.7),
        judge: FitJudge | None = None,
        cooldown: float = 0.1,
    ) -> None:
        low, high = bounds
        if not 0.0 <= low < high < 1.0:
            raise ValueError(f"bounds are {bounds}. Give the lowest and the highest rate, in [0, 1).")
        if not low <= rate <= high:
            raise ValueError(f"The start rate {rate:g} is out of the bounds {bounds}. Change one of them.")
        if not 0.0 <= cooldown < 1.0:
            raise ValueError(f"cooldown is {cooldown}. Give a share of the fit, in [0, 1).")
        self.rate = rate
        self.bounds = low, high
        self.judge = judge or FitJudge()
        self.cooldown = cooldown
        self.state: FitState | None = None
        self._decided_at = 0.0

    def decide(self, *, train: float, val: float, progress: float) -> str:
        """Take a measurement of both losses in eval mode, move ``rate``, and return the reason in words."""
        self.state = self.judge(train, val, self.state)
        elapsed = min(max(progress - self._decided_at, 0.0), _MAX_ELAPSED)
        self._decided_at = progress
        if progress <= _WARMUP:
            return f"holds: nothing is decided in the first {_WARMUP:.0%} of a fit"
        if progress > 1.0 - self.cooldown:
            return f"holds: the last {self.cooldown:.0%} of a fit cool down"
        before = self.rate
        if self.state.label == "overfit":
            excess = self.state.gap_share / self.judge.target - 1.0
            self._move(_RAISE * min(excess, 1.0) * elapsed)
        elif self.state.label == "underfit":
            self._move(-_LOWER * elapsed)
        return self._reason(self.rate - before)

    def rate_at(self, progress: float) -> float:
        """The rate to train with at ``progress``: the one decided on, and less in the cool-down."""
        if progress <= 1.0 - self.cooldown:
            return self.rate
        low = self.bounds[0]
        return low + (self.rate - low) * (1.0 - progress) / self.cooldown

    def state_dict(self) -> dict[str, Any]:
        """What cannot be computed again, in plain types."""
        return {
            "rate": self.rate,
            "decided_at": self._decided_at,
            "state": None if self.state is None else list(self.state),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a controller was; its rate is brought into the bounds of this one."""
        self.rate = min(max(state["rate"], self.bounds[0]), self.bounds[1])
        self._decided_at = state["decided_at"]
        self.state = None if state["state"] is None else FitState(*state["state"])

    def _move(self, by: float) -> None:
        strength = -math.log1p(-self.rate) + by
        self.rate = min(max(-math.expm1(-strength), self.bounds[0]), self.bounds[1])

    def _reason(self, change: float) -> str:
        assert self.state is not None
        label, share, num_stale = self.state.label, self.state.gap_share, self.state.num_stale
        if change == 0.0:
            action = "holds, fit" if label == "fit" else f"holds at its bound, {label}"
        else:
            action = f"{'rises' if change > 0.0 else 'falls'}, {label}"
        trend = f"has not improved {num_stale} times" if num_stale >= self.judge.patience else "improves"
        return (
            f"{action}: the gap is {share:.0%} of the validation loss (target {self.judge.target:.0%}), which {trend}"
        )
