import itertools
import math

import pytest
import torch
from torch import nn

from lightning_dropout.layers import (
    AlphaDropout,
    Dropout,
    Dropout1d,
    Dropout2d,
    Dropout3d,
    FeatureAlphaDropout,
)

PAIRS = [
    (Dropout, nn.Dropout, (4, 8, 6)),
    (Dropout1d, nn.Dropout1d, (4, 8, 6)),
    (Dropout1d, nn.Dropout1d, (8, 6)),
    (Dropout2d, nn.Dropout2d, (4, 8, 3, 3)),
    (Dropout3d, nn.Dropout3d, (4, 8, 2, 3, 3)),
    (Dropout3d, nn.Dropout3d, (8, 2, 3, 3)),
    (AlphaDropout, nn.AlphaDropout, (4, 8, 6)),
    (FeatureAlphaDropout, nn.FeatureAlphaDropout, (4, 8, 6)),
]
as_torch = pytest.mark.parametrize(("ours", "theirs", "shape"), PAIRS)


@as_torch
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("inplace", [False, True])
def test_bit_identical_to_torch_in_eager(ours, theirs, shape, p, inplace):
    results = []
    for layer in (ours(p, inplace), theirs(p, inplace)):
        torch.manual_seed(7)
        leaf = torch.randn(shape, requires_grad=True)
        x = leaf * 1.0
        output = layer(x)
        output.square().sum().backward()
        results.append((output, x, leaf.grad))
    assert all(a.equal(b) for a, b in zip(*results, strict=True))


@as_torch
def test_takes_the_place_of_torchs_layer(ours, theirs, shape):
    layer = ours(0.3)
    assert isinstance(layer, theirs)
    assert str(layer) == str(theirs(0.3))
    layer.p = 0.4
    assert layer.rate == layer.p == 0.4


@as_torch
@pytest.mark.parametrize("p", [0.2, 0.5])
def test_compiled_code_shares_masks_and_scales_as_torch_does(ours, theirs, shape, p):
    layer, x = compiled(ours(p)), torch.randn(shape)
    torch.manual_seed(7)
    kept = layer(torch.full(shape, 5.0)) > 0  # 5 is far above what alpha dropout puts in its place
    torch.manual_seed(7)
    output = layer(x)
    torch_kept = theirs(p)(torch.full(shape, 5.0)) > 0
    for dim in range(len(shape)):
        assert shared(kept, dim) == shared(torch_kept, dim)
    if issubclass(theirs, (nn.AlphaDropout, nn.FeatureAlphaDropout)):
        saturation = -1.0507009873554805 * 1.6732632423543772
        a = ((1 - p) * (1 + p * saturation**2)) ** -0.5
        expected = a * torch.where(kept, x, saturation) - a * p * saturation
    else:
        expected = x * kept / (1 - p)
    torch.testing.assert_close(output, expected)


def compiled(layer):
    torch._dynamo.reset()
    return torch.compile(layer, backend="eager", fullgraph=True)


def shared(mask, dim):
    return mask.equal(mask.narrow(dim, 0, 1).expand_as(mask))


def test_the_worked_example():
    """[2, 4, 6, 8] at p = .5 with units 2 and 4 dropped is [4, 0, 12, 0] in training, and itself in inference."""
    layer, x = Dropout(0.5), torch.tensor([2.0, 4.0, 6.0, 8.0])
    outcomes = {tuple(layer(x).tolist()) for _ in range(200)}
    assert (4.0, 0.0, 12.0, 0.0) in outcomes
    assert outcomes == set(itertools.product((0.0, 4.0), (0.0, 8.0), (0.0, 12.0), (0.0, 16.0)))
    assert layer.eval()(x).tolist() == [2.0, 4.0, 6.0, 8.0]


@pytest.mark.parametrize("form", [lambda layer: layer, compiled], ids=["eager", "compiled"])
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_alpha_dropout_keeps_mean_0_and_variance_1(form, p):
    output = form(AlphaDropout(p))(torch.randn(1000, 1000)).double()
    assert output.mean().item() == pytest.approx(0.0, abs=5 * math.sqrt(1 / 1e6))
    spread = (output.pow(4).mean().item() - 1) ** 0.5
    assert output.var().item() == pytest.approx(1.0, abs=5 * spread / 1000)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("form", [lambda layer: layer, compiled], ids=["eager", "compiled"])
def test_alpha_dropout_drops_the_rate(form, dtype):
    output = form(AlphaDropout(0.001))(torch.ones(1000, 1000, dtype=dtype))
    assert (output < 0).double().mean().item() == pytest.approx(0.001, abs=5 * math.sqrt(0.001 / 1e6))


def test_compiled_code_leaves_out_a_layer_built_at_0_until_something_drives_it():
    layer, x = Dropout(0.0), torch.ones(100)
    network = compiled(lambda x: layer(x) + 1)
    state = torch.get_rng_state()
    assert network(x).equal(x + 1)
    assert torch.get_rng_state().equal(state)
    layer.rate = 0.5
    assert set(network(x).unique().tolist()) == {1.0, 3.0}


@pytest.mark.parametrize("layer_class", [Dropout, Dropout2d])
def test_inplace_holds_when_compiled(layer_class):
    x = torch.ones(2, 8, 2, 2)
    output = compiled(layer_class(0.5, inplace=True))(x)
    assert output.equal(x)
    assert set(x.unique().tolist()) == {0.0, 2.0}
