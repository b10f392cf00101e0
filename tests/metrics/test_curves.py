from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_dropout.metrics import gap_slope, overfitting_onset

VALUES = st.lists(st.floats(-10, 10), min_size=2, max_size=20)


@settings(max_examples=50, deadline=None)
@given(VALUES, st.integers(2, 25), st.integers(1, 100))
def test_slope_is_that_of_numpy(gaps: list[float], window: int, stride: int) -> None:
    steps = list(range(0, stride * len(gaps), stride))
    expected = np.polyfit(steps[-window:], gaps[-window:], 1)[0]
    assert gap_slope(gaps, steps, window=window) == pytest.approx(expected, abs=1e-7)


def test_slope_counts_measurements_where_there_are_no_steps() -> None:
    assert gap_slope([0.0, 0.5, 1.0]) == pytest.approx(0.5)


@pytest.mark.parametrize("gaps", [[], [0.3]])
def test_too_few_gaps_have_no_slope(gaps: list[float]) -> None:
    assert math.isnan(gap_slope(gaps))


def test_a_slope_refuses_what_it_cannot_read() -> None:
    with pytest.raises(ValueError, match="2 gaps and 3 steps"):
        gap_slope([0.1, 0.2], [1, 2, 3])
    with pytest.raises(ValueError, match="needs a window of 2 or more"):
        gap_slope([0.1, 0.2], window=1)


def overfitting_run(num_epochs: int, turn: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    epochs = np.arange(num_epochs)
    train = np.exp(-epochs / 20)
    val = 0.5 + ((epochs - turn) / 40) ** 2 + noise * np.random.default_rng(seed).standard_normal(num_epochs)
    return train, val


@pytest.mark.parametrize("seed", range(5))
def test_onset_of_a_noisy_run_is_its_minimum(seed: int) -> None:
    train, val = overfitting_run(100, turn=30, noise=0.01, seed=seed)
    onset = overfitting_onset(train.tolist(), val.tolist())
    assert onset == np.argmin(val)
    assert abs(onset - 30) <= 10


def test_onset_is_given_in_steps() -> None:
    train, val = overfitting_run(60, turn=30, noise=0.0, seed=0)
    steps = list(range(0, 600, 10))
    assert overfitting_onset(train.tolist(), val.tolist(), steps) == 300


def test_accuracies_have_an_onset_too() -> None:
    train, val = overfitting_run(60, turn=30, noise=0.0, seed=0)
    assert overfitting_onset((1 - train).tolist(), (1 - val).tolist(), higher_is_better=True) == 30
    assert overfitting_onset((1 - train).tolist(), (1 - val).tolist(), higher_is_better=False) is None


def test_curves_that_stop_together_are_no_overfitting() -> None:
    val = [1.0, 0.5, 0.6, 0.7, 0.8]
    assert overfitting_onset([0.9, 0.4, 0.5, 0.6, 0.7], val) is None
    assert overfitting_onset([0.9, 0.4, 0.3, 0.2, 0.1], val) == 1


@pytest.mark.parametrize(("patience", "onset"), [(1, 2), (2, 2), (3, None)])
def test_an_onset_waits_for_its_patience(patience: int, onset: int | None) -> None:
    train, val = [1.0, 0.8, 0.6, 0.4, 0.2], [1.0, 0.8, 0.7, 0.8, 0.9]
    assert overfitting_onset(train, val, patience=patience) == onset


def test_small_differences_count_as_none() -> None:
    train, val = [1.0, 0.8, 0.6, 0.4, 0.2, 0.1], [1.0, 0.8, 0.7, 0.71, 0.72, 0.71]
    assert overfitting_onset(train, val) == 2
    assert overfitting_onset(train, val, min_delta=0.05) is None


def test_a_validation_loss_that_is_no_number_is_the_worst() -> None:
    assert overfitting_onset([0.4, 0.3, 0.2, 0.1, 0.1], [1.0, 0.5] + 3 * [math.nan]) == 1


def test_an_onset_refuses_what_it_cannot_read() -> None:
    with pytest.raises(ValueError, match="2 training values, 1 validation values and 1 steps"):
        overfitting_onset([0.1, 0.2], [0.1])
    with pytest.raises(ValueError, match="give 1 or more"):
        overfitting_onset([0.1], [0.1], patience=0)
