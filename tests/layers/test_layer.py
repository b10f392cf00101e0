import math

import pytest
import torch
from torch import nn

from lightning_dropout.layers import LayerDropout


@pytest.mark.parametrize("rate", [0.2, 0.7])
def test_skips_with_the_rate_and_rescales_nothing(rate):
    skip, x, output = LayerDropout(rate), torch.zeros(3), torch.ones(3)
    draws = torch.stack([skip(x, output) for _ in range(10_000)])
    assert draws.equal(draws[:, :1].expand(-1, 3))
    assert draws.mean().item() == pytest.approx(1 - rate, abs=5 * math.sqrt(rate * (1 - rate) / 10_000))


def test_a_skipped_layer_gets_zero_gradients_and_its_input_the_whole_one():
    layer, x = nn.Linear(3, 3), torch.randn(2, 3, requires_grad=True)
    output = LayerDropout(1.0)(x, layer(x))
    output.sum().backward()
    assert output.equal(x)
    assert not layer.weight.grad.any()
    assert x.grad.equal(torch.ones(2, 3))


def test_a_kept_layer_is_its_output():
    layer, x = nn.Linear(3, 3), torch.randn(2, 3)
    assert LayerDropout(1.0).eval()(x, layer(x)).equal(layer(x))
    assert LayerDropout(0.0)(x, layer(x)).equal(layer(x))
