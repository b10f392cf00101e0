"""The control law of adaptive dropout: from losses to a rate, in plain numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from lightning_dropout.metrics import FitJudge, FitState

__all__ = ["RateController"]

# Speeds at the start of a fit, in -log(keep probability) per whole fit. Lowering is slower: what underfits loses time,
# what memorises cannot be made to forget. Chosen by tests/benchmarks/adaptive_constants.py.
_RAISE, _LOWER = 12.0, 6.0
# One decision counts for no more than this share of the fit, however rarely there is one.
_MAX_ELAPSED = 0.05
_WARMUP = 0.05
# A validation loss this far above its best has risen; a training loss no further above its own then has not.
_RISE, _TRAIN_RISE = 0.01, 0.02

Action = Literal["holds", "rises", "falls"]


class RateController:
    """Raises a dropout rate while a model memorises, lowers it while dropout holds the model back.

    It tells by both losses, in eval mode. The model memorises if the gap is above target and the validation loss has
    risen above its best, but not the training loss: then dropout rises. If both losses have risen, the rate itself was
    too high: it falls. It falls as well while the model underfits, with a gap below target and a validation loss that
    still improves. Anything else is left as it is, a wide gap on a validation loss that stays low too.

    It moves ``-log(1 - rate)``, in which equal steps multiply the share that is kept, from 0 on and up to any rate. The
    speed is measured in training progress, so that it does not depend on how often there is a decision, and decays in a
    straight line over the fit, so that the rate settles although what it changes shows late. Nothing accumulates at a
    bound, so the rate leaves it at once.

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
        >>> controller = RateController(0.5)
        >>> for train, val, progress in [(0.9, 1.0, 0.1), (0.5, 0.8, 0.15), (0.2, 0.8, 0.2), (0.1, 0.9, 0.25)]:
        ...     reason = controller.decide(train=train, val=val, progress=progress)
        ...     print(f"{controller.rate:.2f} {reason}")
        0.35 falls: the validation loss improves, and the gap is 10% of it (target 25%)
        0.15 falls: the validation loss improves, and the gap is 22% of it (target 25%)
        0.15 holds: the validation loss stays low, and the gap is 47% of it (target 25%)
        0.46 rises: the validation loss is 3% above its best, the training loss is not, ...
    """

    def __init__(
        self,
        rate: float,
        *,
        bounds: tuple[float, float] = (0.0, 0.9),
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
        self.action: Action = "holds"
        self._train_at_best = math.inf
        self._decided_at = 0.0

    def decide(self, *, train: float, val: float, progress: float) -> str:
        """Take a measurement of both losses in eval mode, move ``rate``, and return the reason in words."""
        self.state = self.judge(train, val, self.state)
        if self.state.num_stale == 0:
            self._train_at_best = self.state.train
        elapsed = min(max(progress - self._decided_at, 0.0), _MAX_ELAPSED)
        self._decided_at = progress
        if progress <= _WARMUP:
            return f"holds: nothing is decided in the first {_WARMUP:.0%} of a fit"
        if progress > 1.0 - self.cooldown:
            return f"holds: the last {self.cooldown:.0%} of a fit cool down"
        self.action, why = self._verdict(self.state)
        if self.action != "holds":
            self._move((_RAISE if self.action == "rises" else -_LOWER) * (1.0 - progress) * elapsed)
        return f"{self.action}: {why}"

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
            "train_at_best": self._train_at_best,
            "state": None if self.state is None else list(self.state),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a controller was; its rate is brought into the bounds of this one."""
        self.rate = min(max(state["rate"], self.bounds[0]), self.bounds[1])
        self._decided_at = state["decided_at"]
        self._train_at_best = state["train_at_best"]
        self.state = None if state["state"] is None else FitState(*state["state"])

    def _move(self, by: float) -> None:
        strength = -math.log1p(-self.rate) + by
        self.rate = min(max(-math.expm1(-strength), self.bounds[0]), self.bounds[1])

    def _verdict(self, state: FitState) -> tuple[Action, str]:
        gap = f"the gap is {state.gap_share:.0%} of it (target {self.judge.target:.0%})"
        if state.val > state.best * (1.0 + _RISE):
            rise = f"the validation loss is {state.val / state.best - 1.0:.0%} above its best"
            if state.train > self._train_at_best * (1.0 + _TRAIN_RISE):
                return "falls", f"{rise}, and so is the training loss"
            if state.gap_share > self.judge.target:
                return "rises", f"{rise}, the training loss is not, and {gap}"
            return "holds", f"{rise}, but {gap}"
        if state.label == "underfit":
            return "falls", f"the validation loss improves, and {gap}"
        return "holds", f"the validation loss stays low, and {gap}"
