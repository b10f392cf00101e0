import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_dropout.layers.mask import drop, keep_mask, keep_scale

CPU = torch.device("cpu")
rates = pytest.mark.parametrize("as_tensor", [False, True], ids=["float", "tensor"])


@rates
@pytest.mark.parametrize("rate", [1e-4, 0.001, 0.1, 0.5, 0.999])
def test_each_entry_is_dropped_with_the_rate(rate, as_tensor):
    kept = keep_mask((1000, 1000), torch.tensor(rate) if as_tensor else rate, CPU)
    assert kept.dtype == torch.bool
    assert 1 - kept.double().mean().item() == pytest.approx(rate, abs=5 * math.sqrt(rate * (1 - rate) / 1e6))


@rates
def test_rates_0_and_1_are_certain(as_tensor):
    zero, one = (torch.tensor(0.0), torch.tensor(1.0)) if as_tensor else (0.0, 1.0)
    assert keep_mask((1000,), zero, CPU).all()
    assert not keep_mask((1000,), one, CPU).any()


@given(st.floats(0, 1))
@settings(max_examples=50)
def test_scale_is_the_same_for_both_forms_of_a_rate(rate):
    scale = keep_scale(torch.tensor(rate, dtype=torch.float64))
    assert scale.item() == pytest.approx(keep_scale(rate))
    assert math.isfinite(keep_scale(rate))


def test_scale_at_rate_1_is_0():
    assert keep_scale(1.0) == 0.0
    assert keep_scale(torch.tensor(1.0)).item() == 0.0


def test_what_is_dropped_is_0_even_if_it_was_infinite():
    x = torch.tensor([math.inf, math.nan], requires_grad=True)
    output = drop(x, 1.0, x.shape)
    output.sum().backward()
    assert output.tolist() == [0.0, 0.0]
    assert x.grad.tolist() == [0.0, 0.0]


def test_one_mask_is_broadcast():
    output = drop(torch.ones(100, 5), 0.5, (100, 1))
    assert output.equal(output[:, :1].expand(100, 5))
    assert set(output.unique().tolist()) == {0.0, 2.0}
