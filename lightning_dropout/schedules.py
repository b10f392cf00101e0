"""Schedules: pure functions from training progress in [0, 1] to a dropout rate in [0, 1].

Progress is continuous: 0 before the first optimizer step of a fit, 1 after the last. A schedule keeps no state, so
there is nothing to save and a resumed run follows the same curve. With ``how="scale"`` the same curves are factors.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

__all__ = [
    "Annealed",
    "Constant",
    "Cosine",
    "Curriculum",
    "Early",
    "Exponential",
    "Late",
    "Linear",
    "Piecewise",
    "Schedule",
    "ScheduleLike",
    "Step",
    "Triangle",
    "Vee",
    "Warmup",
    "as_schedule",
]


class Schedule(ABC):
    """A rate as a function of progress; subclass it, define ``curve`` and call the object.

    Example:
        >>> class Square(Schedule):
        ...     def curve(self, progress: float) -> float:
        ...         return progress**2
        >>> Square()(0.5)
        0.25
    """

    #: The largest value that the curve may reach.
    bound: float = 1.0

    @abstractmethod
    def curve(self, progress: float) -> float:
        """The rate at ``progress``, which is known to lie in [0, 1]."""

    def __call__(self, progress: float) -> float:
        """The rate at ``progress``.

        Raises:
            ValueError: If ``progress`` lies outside [0, 1], or what the curve returns outside [0, ``bound``].
        """
        if not 0.0 <= progress <= 1.0:
            raise ValueError(f"{self!r}: called at progress {progress}. Give the share of training done, in [0, 1].")
        value = self.curve(progress)
        rate = _float(value)
        if not (0.0 <= rate <= self.bound and rate < math.inf):
            allowed = f"a number in [0, {self.bound:g}]" if self.bound < math.inf else "a finite number from 0 on"
            raise ValueError(f"{self!r}: returned {value!r} at progress {progress}. Return {allowed}.")
        return rate


#: Accepted wherever a schedule is taken; ``as_schedule`` makes it a ``Schedule``.
ScheduleLike = Schedule | float | Callable[[float], float]


def as_schedule(value: ScheduleLike, *, bound: float = 1.0) -> Schedule:
    """Make a schedule of a number or of any function of progress, whose values are then checked at every call.

    Args:
        value: A schedule is returned as it is, a number becomes ``Constant``.
        bound: The largest value that a plain function may return: ``math.inf`` admits factors above 1.

    Raises:
        ValueError: If ``value`` is none of these, a number outside [0, 1], or a class where its object is meant.

    Example:
        >>> as_schedule(0.1)
        Constant(rate=0.1)
        >>> as_schedule(lambda progress: 0.5 * progress)(0.5)
        0.25
    """
    if isinstance(value, Schedule):
        return value
    if isinstance(value, type):
        raise ValueError(f"The schedule is the class {value.__name__}. Give an object of it: {value.__name__}(...).")
    return _Function(value, bound) if callable(value) else Constant(value)


@dataclass(frozen=True)
class Constant(Schedule):
    """The same rate throughout, as dropout was proposed (Srivastava et al. 2014).

    Example:
        >>> Constant(0.1)(0.7)
        0.1
    """

    rate: float

    def __post_init__(self) -> None:
        _check_unit(self, "rate")

    def curve(self, progress: float) -> float:
        """``rate``."""
        return self.rate


@dataclass(frozen=True)
class Linear(Schedule):
    """A straight line from ``start`` at ``begin`` to ``end`` at ``until``, level before and after.

    Example:
        >>> Linear(0.0, 0.4, until=0.5)(0.25)
        0.2
    """

    start: float
    end: float
    begin: float = 0.0
    until: float = 1.0

    def __post_init__(self) -> None:
        _check_unit(self, "start", "end", "begin", "until")
        _check_span(self, self.begin, self.until)

    def curve(self, progress: float) -> float:
        """``start + (end - start) x``, where x runs from 0 at ``begin`` to 1 at ``until``."""
        return _blend(self.start, self.end, _ramp(progress, self.begin, self.until))


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from ``start`` at ``begin`` to ``end`` at ``until``, level before and after.

    The curve of Loshchilov and Hutter (2017), without restarts.

    Example:
        >>> round(Cosine(0.4, 0.0)(0.25), 3)
        0.341
    """

    start: float
    end: float
    begin: float = 0.0
    until: float = 1.0

    def __post_init__(self) -> None:
        _check_unit(self, "start", "end", "begin", "until")
        _check_span(self, self.begin, self.until)

    def curve(self, progress: float) -> float:
        """``start + (end - start) (1 - cos(pi x)) / 2``, where x runs from 0 at ``begin`` to 1 at ``until``."""
        x = _ramp(progress, self.begin, self.until)
        return _blend(self.start, self.end, (1.0 - math.cos(math.pi * x)) / 2.0)


@dataclass(frozen=True)
class Exponential(Schedule):
    """Geometric change from ``start`` to ``start * gamma``; ``gamma`` is the factor over the whole training.

    Example:
        >>> round(Exponential(0.4, gamma=0.25)(0.5), 6)
        0.2
    """

    start: float
    gamma: float

    def __post_init__(self) -> None:
        _check_unit(self, "start")
        _check_positive(self, "gamma")
        _check_end(self, self.start * self.gamma)

    def curve(self, progress: float) -> float:
        """``start * gamma ** progress``."""
        return min(self.start * math.pow(self.gamma, progress), 1.0)  # pow may round up


@dataclass(frozen=True)
class Step(Schedule):
    """``start``, multiplied by ``gamma`` at every milestone, as ``torch.optim.lr_scheduler.MultiStepLR`` does.

    Example:
        >>> schedule = Step(0.4, gamma=0.5, milestones=[0.5, 0.75])
        >>> [schedule(progress) for progress in (0.0, 0.5, 1.0)]
        [0.4, 0.2, 0.1]
    """

    start: float
    gamma: float
    milestones: Sequence[float]

    def __post_init__(self) -> None:
        _check_unit(self, "start")
        _check_positive(self, "gamma")
        milestones = tuple(_unit(milestone, "Step(milestones)") for milestone in self.milestones)
        if not milestones or any(b <= a for a, b in pairwise(milestones)):
            raise ValueError(f"Step(milestones): found {self.milestones!r}. Give at least one, in ascending order.")
        object.__setattr__(self, "milestones", milestones)
        _check_end(self, self._after(len(milestones)))

    def curve(self, progress: float) -> float:
        """``start * gamma ** n`` after n milestones; a milestone counts from its own progress on."""
        return self._after(bisect_right(self.milestones, progress))

    def _after(self, num_milestones: int) -> float:
        return self.start * math.prod([self.gamma] * num_milestones)  # unlike **, overflows to inf


@dataclass(frozen=True)
class Piecewise(Schedule):
    """Straight lines through ``points`` (progress, rate), level before the first and after the last.

    Two points at one progress make a jump: the later one holds from there on.

    Example:
        >>> schedule = Piecewise([(0.0, 0.0), (0.5, 0.4), (0.5, 0.1), (1.0, 0.1)])
        >>> [schedule(progress) for progress in (0.25, 0.5, 1.0)]
        [0.2, 0.1, 0.1]
    """

    points: Sequence[tuple[float, float]]

    def __post_init__(self) -> None:
        try:
            points = tuple((x, y) for x, y in self.points)
        except (TypeError, ValueError):
            points = ()
        if not points:
            raise ValueError(f"Piecewise(points): found {self.points!r}. Give pairs of progress and rate.")
        points = tuple((_unit(x, "Piecewise(points)"), _unit(y, "Piecewise(points)")) for x, y in points)
        if any(b < a for (a, _), (b, _) in pairwise(points)):
            raise ValueError(f"Piecewise(points): found {self.points!r}. Give them in order of progress.")
        object.__setattr__(self, "points", points)

    def curve(self, progress: float) -> float:
        """Linear interpolation between the neighbouring points."""
        right = bisect_right(self.points, progress, key=lambda point: point[0])
        if right == 0:
            return self.points[0][1]
        if right == len(self.points):
            return self.points[-1][1]
        (begin, start), (until, end) = self.points[right - 1], self.points[right]
        return _blend(start, end, _ramp(progress, begin, until))


@dataclass(frozen=True)
class Triangle(Schedule):
    """From ``low`` up to ``high`` and back, ``cycles`` times, in straight lines (Smith 2017).

    Example:
        >>> schedule = Triangle(0.0, 0.4, cycles=2)
        >>> [schedule(progress) for progress in (0.0, 0.125, 0.25, 0.5, 1.0)]
        [0.0, 0.2, 0.4, 0.0, 0.0]
    """

    low: float
    high: float
    cycles: int

    def __post_init__(self) -> None:
        _check_unit(self, "low", "high")
        if self.low > self.high:
            raise ValueError(f"Triangle(low): found {self.low}, above high={self.high}. Exchange them.")
        if not (isinstance(self.cycles, int) and self.cycles >= 1):
            raise ValueError(f"Triangle(cycles): found {self.cycles!r}. Give a whole number from 1 on.")

    def curve(self, progress: float) -> float:
        """``low + (high - low) (1 - |2 x - 1|)``, where x runs from 0 to 1 in every cycle."""
        x = progress * self.cycles % 1.0
        return _blend(self.low, self.high, 1.0 - abs(2.0 * x - 1.0))


@dataclass(frozen=True)
class Early(Schedule):
    """Dropout in the first part of training only, against underfitting (Liu et al. 2023, "early dropout").

    Their ImageNet settings: dropout 0.1 or stochastic depth 0.5, linear, until 50 of 300 epochs.

    Example:
        >>> schedule = Early(rate=0.2, until=0.5)
        >>> [schedule(progress) for progress in (0.0, 0.25, 0.5, 1.0)]
        [0.2, 0.1, 0.0, 0.0]
    """

    rate: float
    until: float
    shape: Literal["linear", "constant"] = "linear"

    def __post_init__(self) -> None:
        _check_unit(self, "rate", "until")
        _check_span(self, 0.0, self.until)
        if self.shape not in ("linear", "constant"):
            raise ValueError(f"Early(shape): found {self.shape!r}. Give 'linear' or 'constant'.")

    def curve(self, progress: float) -> float:
        """``rate (1 - progress / until)`` or ``rate``, then 0 from ``until`` on."""
        if self.shape == "linear":
            return self.rate * (1.0 - _ramp(progress, 0.0, self.until))
        return self.rate if progress < self.until else 0.0


@dataclass(frozen=True)
class Late(Schedule):
    """No dropout before ``after``, then a constant rate, against overfitting (Liu et al. 2023, "late dropout").

    Their ImageNet setting: stochastic depth 0.4 after 50 of 300 epochs.

    Example:
        >>> [Late(rate=0.4, after=0.5)(progress) for progress in (0.0, 0.5, 1.0)]
        [0.0, 0.4, 0.4]
    """

    rate: float
    after: float

    def __post_init__(self) -> None:
        _check_unit(self, "rate", "after")

    def curve(self, progress: float) -> float:
        """0, then ``rate`` from ``after`` on."""
        return self.rate if progress >= self.after else 0.0


@dataclass(frozen=True)
class Curriculum(Schedule):
    """From 0 towards ``rate``, quickly at first: ever harder examples (Morerio et al. 2017, "Curriculum Dropout").

    Example:
        >>> [round(Curriculum(0.5)(progress), 3) for progress in (0.0, 0.1, 0.5, 1.0)]
        [0.0, 0.316, 0.497, 0.5]
    """

    rate: float
    gamma: float = 10.0

    def __post_init__(self) -> None:
        _check_unit(self, "rate")
        _check_positive(self, "gamma")

    def curve(self, progress: float) -> float:
        """``rate (1 - exp(-gamma progress))``: one minus the paper's keep rate ``(1 - k) exp(-gamma t) + k``."""
        return self.rate * -math.expm1(-self.gamma * progress)


@dataclass(frozen=True)
class Annealed(Schedule):
    """From ``rate`` down to 0 at ``until`` in a straight line (Rennie et al. 2014, "Annealed Dropout").

    Example:
        >>> [Annealed(0.5, until=0.8)(progress) for progress in (0.0, 0.4, 0.8, 1.0)]
        [0.5, 0.25, 0.0, 0.0]
    """

    rate: float
    until: float

    def __post_init__(self) -> None:
        _check_unit(self, "rate", "until")
        _check_span(self, 0.0, self.until)

    def curve(self, progress: float) -> float:
        """``rate max(0, 1 - progress / until)``."""
        return self.rate * (1.0 - _ramp(progress, 0.0, self.until))


@dataclass(frozen=True)
class Vee(Schedule):
    """From ``start`` down to 0 at ``turn``, then up to ``end``, in straight lines (Zhou et al. 2020, DropHead).

    Example:
        >>> schedule = Vee(start=0.2, end=0.4, turn=0.5)
        >>> [schedule(progress) for progress in (0.0, 0.25, 0.5, 0.75, 1.0)]
        [0.2, 0.1, 0.0, 0.2, 0.4]
    """

    start: float
    end: float
    turn: float

    def __post_init__(self) -> None:
        _check_unit(self, "start", "end", "turn")
        if not 0.0 < self.turn < 1.0:
            raise ValueError(f"Vee(turn): found {self.turn}. Give a progress inside (0, 1).")

    def curve(self, progress: float) -> float:
        """``start (1 - progress / turn)``, then ``end (progress - turn) / (1 - turn)``."""
        return self.start * (1.0 - _ramp(progress, 0.0, self.turn)) + self.end * _ramp(progress, self.turn, 1.0)


@dataclass(frozen=True)
class Warmup(Schedule):
    """Any schedule, number or function, faded in: multiplied by ``progress / until`` until then (Goyal et al. 2017).

    From ``until`` on the curve is the wrapped one, which is not shifted.

    Example:
        >>> schedule = Warmup(0.4, until=0.1)
        >>> schedule
        Warmup(schedule=Constant(rate=0.4), until=0.1)
        >>> [schedule(progress) for progress in (0.0, 0.05, 0.1, 1.0)]
        [0.0, 0.2, 0.4, 0.4]
    """

    schedule: ScheduleLike
    until: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", as_schedule(self.schedule))
        _check_unit(self, "until")
        _check_span(self, 0.0, self.until)

    def curve(self, progress: float) -> float:
        """``schedule(progress) min(1, progress / until)``."""
        assert isinstance(self.schedule, Schedule)
        return self.schedule(progress) * _ramp(progress, 0.0, self.until)


@dataclass(frozen=True, repr=False)
class _Function(Schedule):
    """A plain function of progress."""

    function: Callable[[float], float]
    bound: float

    def curve(self, progress: float) -> float:
        return self.function(progress)

    def __repr__(self) -> str:
        return getattr(self.function, "__qualname__", None) or repr(self.function)


def _ramp(progress: float, begin: float, until: float) -> float:
    """0 up to ``begin``, 1 from ``until`` on, a straight line between."""
    if progress >= until:
        return 1.0
    return (progress - begin) / (until - begin) if progress > begin else 0.0


def _blend(start: float, end: float, x: float) -> float:
    """``start`` at 0, ``end`` at 1, both exactly; rounding cannot carry it out of [0, 1]."""
    return start * (1.0 - x) + end * x


def _float(value: Any) -> float:
    """``value`` as a float, NaN if it is no number."""
    if isinstance(value, (bool, str)):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _unit(value: Any, field: str) -> float:
    number = _float(value)
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"{field}: found {value!r}. Give a number in [0, 1].")
    return number


def _check_unit(schedule: Schedule, *names: str) -> None:
    """Make the named fields floats in [0, 1]."""
    for name in names:
        object.__setattr__(schedule, name, _unit(getattr(schedule, name), f"{type(schedule).__name__}({name})"))


def _check_positive(schedule: Schedule, name: str) -> None:
    """Make the named field a positive float."""
    value = getattr(schedule, name)
    number = _float(value)
    if not 0.0 < number < math.inf:
        raise ValueError(f"{type(schedule).__name__}({name}): found {value!r}. Give a number above 0.")
    object.__setattr__(schedule, name, number)


def _check_span(schedule: Schedule, begin: float, until: float) -> None:
    if not begin < until:
        raise ValueError(f"{type(schedule).__name__}(until): found {until}. Give a progress above {begin}, up to 1.")


def _check_end(schedule: Schedule, end: float) -> None:
    if not end <= 1.0:
        raise ValueError(f"{schedule!r}: ends at {end:g}. Give a smaller start or gamma, so that it stays in [0, 1].")
