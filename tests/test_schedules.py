import math
import pickle
import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonargparse import ArgumentParser

from lightning_dropout import schedules
from lightning_dropout.schedules import (
    Annealed,
    Constant,
    Cosine,
    Curriculum,
    Early,
    Exponential,
    Late,
    Linear,
    Piecewise,
    Schedule,
    ScheduleLike,
    Step,
    Triangle,
    Vee,
    Warmup,
    as_schedule,
)

# One of each, with the rate at progress 0, at 1 and at one more progress that shows its shape.
EXAMPLES = [
    (Constant(0.1), 0.1, 0.1, (0.5, 0.1)),
    (Linear(0.1, 0.3), 0.1, 0.3, (0.5, 0.2)),
    (Linear(0.1, 0.3, begin=0.2, until=0.6), 0.1, 0.3, (0.4, 0.2)),
    (Cosine(0.4, 0.2), 0.4, 0.2, (0.5, 0.3)),
    (Cosine(0.0, 0.4, begin=0.5, until=0.75), 0.0, 0.4, (0.5, 0.0)),
    (Exponential(0.4, 0.25), 0.4, 0.1, (0.5, 0.2)),
    (Exponential(0.1, 4), 0.1, 0.4, (0.5, 0.2)),
    (Step(0.4, 0.5, [0.3, 0.6]), 0.4, 0.1, (0.3, 0.2)),
    (Piecewise([(0.2, 0.1), (0.6, 0.5)]), 0.1, 0.5, (0.4, 0.3)),
    (Triangle(0.1, 0.3, cycles=3), 0.1, 0.1, (0.5, 0.3)),
    (Early(0.2, until=0.5), 0.2, 0.0, (0.25, 0.1)),
    (Early(0.2, until=0.5, shape="constant"), 0.2, 0.0, (0.49, 0.2)),
    (Late(0.4, after=0.5), 0.0, 0.4, (0.49, 0.0)),
    (Curriculum(0.5), 0.0, 0.5 * (1 - math.exp(-10)), (0.1, 0.5 * (1 - math.exp(-1)))),
    (Annealed(0.5, until=0.8), 0.5, 0.0, (0.4, 0.25)),
    (Vee(0.2, 0.4, turn=0.25), 0.2, 0.4, (0.25, 0.0)),
    (Warmup(Linear(0.4, 0.2), until=0.5), 0.0, 0.2, (0.25, 0.175)),
    (Warmup(Warmup(0.3, 0.2), 0.1), 0.0, 0.3, (0.05, 0.0375)),
]
each = pytest.mark.parametrize("schedule", [example[0] for example in EXAMPLES], ids=repr)

unit = st.floats(0.0, 1.0)
spans = st.tuples(unit, unit).filter(lambda pair: pair[0] != pair[1]).map(sorted)
untils = st.floats(0.0, 1.0, exclude_min=True)
gammas = st.floats(0.0, 1.0, exclude_min=True)
plain = st.one_of(
    unit.map(Constant),
    st.builds(lambda start, end, span: Linear(start, end, *span), unit, unit, spans),
    st.builds(lambda start, end, span: Cosine(start, end, *span), unit, unit, spans),
    st.builds(Exponential, unit, gammas),
    st.builds(lambda end, gamma: Exponential(0.999 * end / gamma, gamma), unit, st.floats(1.0, 1e9)),
    st.builds(Step, unit, gammas, st.lists(unit, min_size=1, unique=True).map(sorted)),
    st.builds(
        lambda xs, ys: Piecewise(list(zip(sorted(xs), ys, strict=False))),
        st.lists(unit, min_size=1, max_size=5),
        st.lists(unit, min_size=5, max_size=5),
    ),
    st.builds(lambda ends, cycles: Triangle(*ends, cycles), spans, st.integers(1, 50)),
    st.builds(Early, unit, untils, st.sampled_from(["linear", "constant"])),
    st.builds(Late, unit, unit),
    st.builds(Curriculum, unit, st.floats(0.0, 1e6, exclude_min=True)),
    st.builds(Annealed, unit, untils),
    st.builds(Vee, unit, unit, st.floats(0.0, 1.0, exclude_min=True, exclude_max=True)),
)
any_schedule = st.recursive(plain, lambda inner: st.builds(Warmup, inner, untils), max_leaves=3)


@given(schedule=any_schedule, progress=unit)
@settings(max_examples=500)
def test_a_rate_never_leaves_the_unit_interval(schedule, progress):
    for at in (0.0, progress, 1.0):
        assert 0.0 <= schedule.curve(at) <= 1.0
        assert schedule(at) == schedule.curve(at)


@pytest.mark.parametrize(("schedule", "first", "last", "between"), EXAMPLES, ids=[repr(e[0]) for e in EXAMPLES])
def test_the_curve_goes_through_its_points(schedule, first, last, between):
    assert schedule(0.0) == first
    assert schedule(1.0) == pytest.approx(last, abs=1e-15)
    assert schedule(between[0]) == pytest.approx(between[1])


@given(start=unit, end=unit, span=spans)
def test_lines_and_cosines_meet_their_ends_exactly(start, end, span):
    for kind in (Linear, Cosine):
        schedule = kind(start, end, *span)
        assert schedule(span[0]) == start
        assert schedule(span[1]) == end


@given(rate=unit, until=untils, progress=unit)
def test_published_equalities(rate, until, progress):
    """Annealed dropout is the linear early dropout; a curriculum's keep rate is the paper's formula."""
    assert Annealed(rate, until)(progress) == Early(rate, until)(progress)
    keep = 1.0 - rate
    assert 1.0 - Curriculum(rate)(progress) == pytest.approx((1.0 - keep) * math.exp(-10.0 * progress) + keep)


@given(schedule=plain, until=untils, progress=unit)
def test_warmup_starts_at_zero_and_then_leaves_the_curve_alone(schedule, until, progress):
    warm = Warmup(schedule, until)
    assert warm(0.0) == 0.0
    assert warm(progress) <= schedule(progress)
    if progress >= until:
        assert warm(progress) == schedule(progress)


def test_a_triangle_repeats_every_cycle():
    schedule = Triangle(0.1, 0.5, cycles=4)
    assert [schedule(at / 16) for at in range(16)] == pytest.approx([0.1, 0.3, 0.5, 0.3] * 4)


def test_a_jump_takes_the_later_point():
    schedule = Piecewise([(0.0, 0.1), (0.5, 0.1), (0.5, 0.4)])
    assert (schedule(math.nextafter(0.5, 0.0)), schedule(0.5), schedule(1.0)) == (0.1, 0.4, 0.4)


@each
def test_values_survive_printing_pickling_and_hashing(schedule):
    printed = eval(repr(schedule), vars(schedules))
    pickled = pickle.loads(pickle.dumps(schedule))
    assert schedule == printed == pickled
    assert len({schedule, printed, pickled}) == 1


def test_lists_equal_tuples_and_ints_equal_floats():
    assert Step(1, 1, [0, 1]) == Step(1.0, 1.0, (0.0, 1.0))
    assert Piecewise([[0, 1], [1, 0]]) == Piecewise(((0.0, 1.0), (1.0, 0.0)))
    assert repr(Constant(0)) == "Constant(rate=0.0)"


class Scheduler:
    def __init__(self, schedule: ScheduleLike) -> None:
        self.schedule = as_schedule(schedule)


def from_yaml(text):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Scheduler, "scheduler")
    return parser.instantiate(parser.parse_string(text)).scheduler.schedule


def to_config(value):
    if isinstance(value, Schedule):
        fields = {name: to_config(getattr(value, name)) for name in value.__dataclass_fields__}
        return {"class_path": f"lightning_dropout.schedules.{type(value).__name__}", "init_args": fields}
    return [to_config(entry) for entry in value] if isinstance(value, tuple) else value


@each
def test_every_schedule_is_built_from_yaml(schedule):
    assert from_yaml(yaml.safe_dump({"scheduler": {"schedule": to_config(schedule)}})) == schedule


def test_yaml_takes_a_number_or_an_importable_function():
    assert from_yaml("scheduler: {schedule: 0.3}") == Constant(0.3)
    assert from_yaml("scheduler: {schedule: math.sqrt}")(0.25) == 0.5
    warm = "{class_path: lightning_dropout.schedules.Warmup, init_args: {schedule: 0.3, until: 0.1}}"
    assert from_yaml(f"scheduler: {{schedule: {warm}}}") == Warmup(0.3, 0.1)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Constant(1.5), "Constant(rate): found 1.5. Give a number in [0, 1]."),
        (lambda: Constant(math.nan), "Constant(rate): found nan. Give a number in [0, 1]."),
        (lambda: Constant("high"), "Constant(rate): found 'high'. Give a number in [0, 1]."),
        (lambda: Linear(0.1, -0.2), "Linear(end): found -0.2. Give a number in [0, 1]."),
        (lambda: Linear(0, 1, 0.5, 0.5), "Linear(until): found 0.5. Give a progress above 0.5, up to 1."),
        (lambda: Cosine(0, 1, 0.5, 0.2), "Cosine(until): found 0.2. Give a progress above 0.5, up to 1."),
        (lambda: Cosine(0, 1, until=2), "Cosine(until): found 2. Give a number in [0, 1]."),
        (lambda: Exponential(0.1, 0), "Exponential(gamma): found 0. Give a number above 0."),
        (lambda: Exponential(0.5, 3), "Exponential(start=0.5, gamma=3.0): ends at 1.5. Give a smaller start or gamma"),
        (lambda: Step(0.5, 2, []), "Step(milestones): found []. Give at least one, in ascending order."),
        (lambda: Step(0.5, 0.5, [0.5, 0.2]), "Step(milestones): found [0.5, 0.2]. Give at least one, in ascending"),
        (lambda: Step(0.5, 0.5, [3]), "Step(milestones): found 3. Give a number in [0, 1]."),
        (lambda: Step(0.5, 1e300, [0.1, 0.2]), "ends at inf. Give a smaller start or gamma"),
        (lambda: Piecewise([]), "Piecewise(points): found []. Give pairs of progress and rate."),
        (lambda: Piecewise([(0, 0, 0)]), "Piecewise(points): found [(0, 0, 0)]. Give pairs of progress and rate."),
        (lambda: Piecewise([0.1, 0.2]), "Piecewise(points): found [0.1, 0.2]. Give pairs of progress and rate."),
        (lambda: Piecewise([(0, 2)]), "Piecewise(points): found 2. Give a number in [0, 1]."),
        (
            lambda: Piecewise([(1, 0), (0, 1)]),
            "Piecewise(points): found [(1, 0), (0, 1)]. Give them in order of progress",
        ),
        (lambda: Triangle(0.5, 0.2, 1), "Triangle(low): found 0.5, above high=0.2. Exchange them."),
        (lambda: Triangle(0.1, 0.2, 0), "Triangle(cycles): found 0. Give a whole number from 1 on."),
        (lambda: Triangle(0.1, 0.2, 1.5), "Triangle(cycles): found 1.5. Give a whole number from 1 on."),
        (lambda: Early(0.1, 0), "Early(until): found 0.0. Give a progress above 0.0, up to 1."),
        (lambda: Early(0.1, 0.5, "cubic"), "Early(shape): found 'cubic'. Give 'linear' or 'constant'."),
        (lambda: Late(0.1, -1), "Late(after): found -1. Give a number in [0, 1]."),
        (lambda: Curriculum(0.1, gamma=-1), "Curriculum(gamma): found -1. Give a number above 0."),
        (lambda: Curriculum(0.1, gamma="fast"), "Curriculum(gamma): found 'fast'. Give a number above 0."),
        (lambda: Annealed(0.1, 0), "Annealed(until): found 0.0. Give a progress above 0.0, up to 1."),
        (lambda: Vee(0.1, 0.1, 1), "Vee(turn): found 1.0. Give a progress inside (0, 1)."),
        (lambda: Warmup(0.1, 0), "Warmup(until): found 0.0. Give a progress above 0.0, up to 1."),
        (lambda: Warmup("fast", 0.1), "Constant(rate): found 'fast'. Give a number in [0, 1]."),
    ],
)
def test_bad_parameters_are_refused_in_one_line(build, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        build()
    assert "\n" not in str(error.value)


@each
@pytest.mark.parametrize("progress", [-0.1, 1.1, math.nan, math.inf])
def test_progress_outside_training_is_refused(schedule, progress):
    with pytest.raises(ValueError, match=rf"called at progress {progress}\. Give the share of training done"):
        schedule(progress)


def half(progress):
    return 0.5


def test_as_schedule_takes_schedules_numbers_and_functions():
    early = Early(0.1, 0.5)
    assert as_schedule(early) is early
    assert as_schedule(0.25) == Constant(0.25)
    assert as_schedule(half)(0.3) == 0.5
    assert as_schedule(half) == pickle.loads(pickle.dumps(as_schedule(half)))
    assert repr(as_schedule(half)) == "half"


@pytest.mark.parametrize("value", [1.5, -0.1, math.nan, None, "0.1 or so"])
def test_values_of_a_function_are_checked(value):
    def mine(progress):
        return value

    with pytest.raises(
        ValueError, match=r"mine: returned .* at progress 0\.25\. Return a number in \[0, 1\]\.$"
    ) as error:
        as_schedule(mine)(0.25)
    assert repr(value) in str(error.value)


def test_a_factor_may_exceed_one_where_that_is_asked_for():
    assert as_schedule(lambda progress: 3.0, bound=math.inf)(0.5) == 3.0
    for value in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="Return a finite number from 0 on"):
            as_schedule(lambda progress, value=value: value, bound=math.inf)(0.5)


def test_a_schedule_of_the_users_own_is_checked_too():
    class Double(Schedule):
        def curve(self, progress):
            return 2.0 * progress

    assert Double()(0.25) == 0.5
    with pytest.raises(ValueError, match=r"returned 1\.5 at progress 0\.75"):
        Double()(0.75)
