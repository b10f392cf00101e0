from __future__ import annotations

import json
import math
import random
from collections import deque
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning_dropout_callbacks.rate_controller import RateController


@dataclass
class Training:
    """A training run in simulation: a model that learns fast, memorises slowly, and is slowed by dropout.

    Loss and gap approach where they would end at the rate of now, ever more slowly. Measurements have noise
    of 1% and arrive ``delay`` validations late. ``ease`` is how easily the model memorises.
    """

    ease: float = 0.6
    cost: float = 0.15
    delay: int = 2
    num_validations: int = 60
    seed: int = 0

    def final_loss(self, controller: RateController | None = None, rate: float = 0.0, *, flip: bool = False) -> float:
        noise, late = random.Random(self.seed), deque(maxlen=self.delay + 1)
        train, gap = 2.0, 0.0
        self.rates = []
        for i in range(self.num_validations):
            progress = i / self.num_validations
            rate = controller.rate_at(progress) if controller else rate
            strength = -math.log1p(-rate)
            speed = 0.1 + 0.45 * (1 + math.cos(math.pi * progress))  # of a learning rate that decays
            train += 0.3 * speed * (0.3 + self.cost * strength - train)
            gap += 0.1 * speed * (self.ease * math.exp(-2.5 * strength) - gap)
            late.append([x * (1 + 0.01 * noise.gauss(0, 1)) for x in (train, train + gap)])
            if controller:
                low, high = reversed(late[0]) if flip else late[0]
                controller.decide(train=low, val=high, progress=(i + 1) / self.num_validations)
                self.rates.append(controller.rate)
        return train + gap


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ease", [0.5, 0.8, 1.2])
def test_a_model_that_overfits_ends_better_than_at_its_own_rate(ease: float, seed: int) -> None:
    run = Training(ease=ease, seed=seed)
    controlled = run.final_loss(RateController(0.05))
    assert controlled < 0.8 * run.final_loss(rate=0.05)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("cost", [0.3, 0.6])
def test_a_model_that_underfits_ends_better_than_at_its_own_rate(cost: float, seed: int) -> None:
    run = Training(ease=0.1, cost=cost, seed=seed)
    controlled = run.final_loss(RateController(0.6))
    assert controlled < 0.9 * run.final_loss(rate=0.6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("delay", [0, 1, 2])
@pytest.mark.parametrize("ease", [0.5, 0.8])
def test_it_settles_under_noise_and_delay(ease: float, delay: int, seed: int) -> None:
    run = Training(ease=ease, delay=delay, seed=seed, num_validations=100)
    run.final_loss(RateController(0.05))
    late = run.rates[70:]
    assert max(late) - min(late) < 0.25
    assert min(late) > 0.2


@pytest.mark.parametrize("seed", range(5))
def test_with_the_sign_of_the_gap_flipped_it_would_do_harm(seed: int) -> None:
    run = Training(ease=0.8, seed=seed)
    own = run.final_loss(rate=0.3)
    assert run.final_loss(RateController(0.3)) < own < run.final_loss(RateController(0.3), flip=True)


def test_from_a_usual_rate_it_comes_near_the_best_constant_and_with_its_losses_swapped_it_does_not() -> None:
    right, swapped = [], []
    for ease in (0.3, 0.5, 0.8, 1.2):
        for delay in (0, 2):
            run = Training(ease=ease, delay=delay)
            best = min(run.final_loss(rate=rate / 20) for rate in range(18))
            right.append(run.final_loss(RateController(0.5)) / best - 1)
            swapped.append(run.final_loss(RateController(0.5), flip=True) / best - 1)
    assert sum(right) / len(right) < 0.1
    assert max(right) < 0.2 < min(swapped)


def test_how_often_it_decides_makes_little_difference() -> None:
    rates = []
    for num_validations in (40, 80, 160):
        controller = RateController(0.1)
        for i in range(num_validations):
            progress = 0.5 * (i + 1) / num_validations
            controller.decide(train=0.5 - 0.1 * progress, val=0.9 + 0.4 * abs(progress - 0.2), progress=progress)
        rates.append(controller.rate)
    assert max(rates) - min(rates) < 0.05
    assert min(rates) > 0.3


LOSSES = st.lists(st.tuples(st.floats(0.01, 5.0), st.floats(0.01, 5.0)), min_size=1, max_size=40)


@settings(max_examples=50, deadline=None)
@given(LOSSES, st.floats(0.1, 0.6))
def test_the_rate_stays_in_its_bounds(losses: list[tuple[float, float]], start: float) -> None:
    controller = RateController(start, bounds=(0.1, 0.6))
    for i, (train, val) in enumerate(losses):
        progress = (i + 1) / len(losses)
        controller.decide(train=train, val=val, progress=progress)
        assert 0.1 <= controller.rate <= 0.6
        assert 0.1 - 1e-12 <= controller.rate_at(progress) <= controller.rate


def overfits(controller: RateController, num: int, begin: float) -> None:
    for i in range(num):
        controller.decide(train=0.9 * 0.8**i, val=1.0 + 0.05 * i, progress=begin + 0.02 * i)


def underfits(controller: RateController, num: int, begin: float) -> None:
    for i in range(num):
        controller.decide(train=0.5 * 0.8**i, val=0.5 * 0.8**i, progress=begin + 0.02 * i)


def test_nothing_winds_up_at_a_bound() -> None:
    long, short = RateController(0.5, bounds=(0.0, 0.7)), RateController(0.5, bounds=(0.0, 0.7))
    overfits(long, 25, 0.1)
    overfits(short, 12, 0.36)
    assert long.rate == short.rate == 0.7
    for controller in (long, short):
        underfits(controller, 8, 0.6)
    assert long.rate == pytest.approx(short.rate, abs=0.03)
    assert long.rate < 0.69


def test_the_first_twentieth_decides_nothing_and_the_last_tenth_cools_down() -> None:
    controller = RateController(0.4)
    overfits(controller, 3, 0.0)
    assert controller.rate == 0.4
    controller.decide(train=0.1, val=1.0, progress=0.95)
    assert controller.rate == 0.4
    assert [controller.rate_at(progress) for progress in (0.0, 0.9, 0.95, 1.0)] == pytest.approx([0.4, 0.4, 0.2, 0.0])
    assert RateController(0.4, cooldown=0.0).rate_at(1.0) == 0.4
    assert RateController(0.4, bounds=(0.2, 0.5)).rate_at(0.95) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("losses", "action", "why"),
    [
        ([(0.9, 1.0), (0.8, 0.9)], "falls", "the validation loss improves, and the gap is 11% of it"),
        ([(0.5, 1.0), (0.4, 0.9)], "holds", "the validation loss stays low, and the gap is 53% of it"),
        ([(0.5, 1.0), (0.4, 1.2)], "rises", "the validation loss is 10% above its best, the training loss is not"),
        ([(0.5, 1.0), (0.7, 1.2)], "falls", "the validation loss is 10% above its best, and so is the training loss"),
        ([(0.9, 1.0), (0.89, 1.1)], "holds", "the validation loss is 5% above its best, but the gap is 15% of it"),
    ],
)
def test_it_gives_a_reason(losses: list[tuple[float, float]], action: str, why: str) -> None:
    controller = RateController(0.4)
    for i, (train, val) in enumerate(losses):
        before, reason = controller.rate, controller.decide(train=train, val=val, progress=0.2 + 0.05 * i)
    assert reason.startswith(f"{action}: {why}")
    assert {"falls": -1, "holds": 0, "rises": 1}[action] == (controller.rate > before) - (controller.rate < before)


def test_it_says_when_it_does_not_decide() -> None:
    controller = RateController(0.4)
    losses = {"train": 0.1, "val": 0.1}
    assert controller.decide(**losses, progress=0.05) == "holds: nothing is decided in the first 5% of a fit"
    assert controller.decide(**losses, progress=0.95) == "holds: the last 10% of a fit cool down"


def test_a_restored_controller_goes_on_as_the_first_would() -> None:
    first, second = RateController(0.2), RateController(0.5)
    overfits(first, 5, 0.1)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for controller in (first, second):
        controller.decide(train=0.3, val=1.4, progress=0.3)
    assert first.rate == second.rate > 0.3
    assert first.state == second.state


def test_a_restored_rate_is_brought_into_the_bounds() -> None:
    first, second = RateController(0.6), RateController(0.1, bounds=(0.0, 0.3))
    second.load_state_dict(first.state_dict())
    assert second.rate == 0.3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rate": 0.95}, r"start rate 0.95 is out of the bounds \(0.0, 0.9\)"),
        ({"rate": 0.5, "bounds": (0.5, 0.5)}, "lowest and the highest rate"),
        ({"rate": 0.5, "bounds": (0.0, 1.0)}, r"in \[0, 1\)"),
        ({"rate": 0.5, "cooldown": 1.0}, "cooldown is 1.0. Give a share of the fit"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RateController(**arguments)
