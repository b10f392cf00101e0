from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_dropout.metrics import FitJudge, FitState


def labels(judge: FitJudge, losses: list[tuple[float, float]]) -> list[str]:
    state, found = None, []
    for train, val in losses:
        state = judge(train, val, state)
        found.append(state.label)
    return found


def at_share(share: float, val: float = 1.0) -> tuple[float, float]:
    return (1 - share) * val, val


def test_a_large_gap_is_overfitting_once_validation_stops_improving() -> None:
    judge = FitJudge(patience=2)
    improving = [at_share(0.6, val) for val in (1.0, 0.8, 0.6, 0.5)]
    assert labels(judge, improving) == ["fit"] * 4
    assert labels(judge, [at_share(0.6)] * 5) == ["fit", "fit", "overfit", "overfit", "overfit"]


def test_a_small_gap_is_underfitting_while_validation_improves() -> None:
    judge = FitJudge(patience=2)
    improving = [at_share(0.02, val) for val in (1.0, 0.8, 0.6, 0.5)]
    assert labels(judge, improving) == ["underfit"] * 4
    assert labels(judge, [at_share(0.02)] * 5) == ["underfit", "underfit", "fit", "fit", "fit"]


def test_a_verdict_starts_beyond_the_band_and_ends_at_the_target() -> None:
    judge = FitJudge(target=0.25, band=0.2, patience=1, smoothing=1.0)
    shares = [0.29, 0.31, 0.29, 0.26, 0.24, 0.29]
    assert labels(judge, [at_share(share, 1 + i) for i, share in enumerate(shares)]) == [
        "fit", "overfit", "overfit", "overfit", "fit", "fit",
    ]  # fmt: skip
    shares = [0.21, 0.19, 0.21, 0.24, 0.26, 0.21]
    assert labels(judge, [at_share(share, 1 / (1 + i)) for i, share in enumerate(shares)]) == [
        "fit", "underfit", "underfit", "underfit", "fit", "fit",
    ]  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 10), st.floats(0.01, 10)), min_size=1, max_size=30), st.floats(0.01, 100))
def test_the_scale_of_the_loss_does_not_matter(losses: list[tuple[float, float]], scale: float) -> None:
    scaled = [(scale * train, scale * val) for train, val in losses]
    assert labels(FitJudge(), scaled) == labels(FitJudge(), losses)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 10), st.floats(0.01, 10)), min_size=1, max_size=30))
def test_with_the_losses_swapped_nothing_that_overfits_still_does(losses: list[tuple[float, float]]) -> None:
    for (train, val), label in zip(losses, labels(FitJudge(smoothing=1.0), losses), strict=True):
        if label == "overfit":
            assert FitJudge()(val, train).label == "underfit"


def test_a_loss_that_is_no_number_is_no_improvement() -> None:
    judge = FitJudge(patience=2)
    state = judge(0.9, 1.0)
    lost = judge(math.nan, math.nan, judge(math.inf, math.inf, state))
    assert (lost.num_stale, lost.val) == (2, 1.0)
    assert judge(0.9, 1.0, judge(math.nan, 1.0)) == state


def test_a_state_is_made_of_plain_numbers() -> None:
    state = FitJudge()(0.5, 1.0)
    assert FitState(*list(state)) == state
    assert state.gap_share == 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": 0.0}, "target is 0.0"),
        ({"target": 1.0}, r"in \(0, 1\)"),
        ({"band": 1.0}, "band is 1.0"),
        ({"patience": 0}, "Give 1 or more"),
        ({"smoothing": 0.0}, "smoothing is 0.0"),
    ],
)
def test_arguments_out_of_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FitJudge(**settings)


def test_a_loss_that_is_not_above_zero_has_no_share() -> None:
    with pytest.raises(ValueError, match=r"validation loss is -1.0. The share of a gap needs a loss above 0"):
        FitJudge()(-2.0, -1.0)
