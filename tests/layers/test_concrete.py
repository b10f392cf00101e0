import math

import pytest
import torch
from torch import nn

from lightning_dropout.layers import ConcreteDropout, concrete_regularization


def identity(num_features, rate, **options):
    linear = nn.Linear(num_features, num_features, bias=False)
    nn.init.eye_(linear.weight)
    return ConcreteDropout(linear, rate, **options)


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_the_soft_mask_drops_more_than_half_of_an_entry_at_the_rate(rate, dtype):
    layer = identity(10, rate).to(dtype)
    output = layer(torch.ones(100_000, 10, dtype=dtype)).double()
    rate = layer.rate  # as its dtype can hold it
    fraction = (output * (1 - rate) < 0.5).double().mean().item()
    assert fraction == pytest.approx(rate, abs=5 * math.sqrt(rate * (1 - rate) / 1e6) + 2e-4)


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.8])
def test_the_mean_is_near_the_input(rate):
    assert identity(10, rate)(torch.ones(100_000, 10)).mean().item() == pytest.approx(1.0, abs=0.015)


def test_agrees_with_the_published_formula():
    layer, x = identity(6, 0.3, temperature=0.2).double(), torch.randn(4, 6, dtype=torch.float64)
    torch.manual_seed(3)
    u = torch.rand(4, 6).double()
    z = torch.sigmoid((math.log(0.3) - math.log(0.7) + u.log() - (1 - u).log()) / 0.2)
    torch.manual_seed(3)
    torch.testing.assert_close(layer(x), x * (1 - z) / 0.7, rtol=1e-5, atol=1e-6)


def test_the_regulariser_is_the_published_one():
    layer = ConcreteDropout(nn.Linear(6, 4), 0.3, weight_regularizer=0.01, dropout_regularizer=0.1)
    weight = layer.module.weight.detach()
    expected = 0.01 * weight.square().sum() / 0.7 + 0.1 * 6 * (0.3 * math.log(0.3) + 0.7 * math.log(0.7))
    torch.testing.assert_close(layer.regularization().detach(), expected)
    assert layer.regularization().shape == ()


def test_the_regularisers_of_a_model_add_up():
    model = nn.Sequential(ConcreteDropout(nn.Linear(6, 4)), nn.ReLU(), ConcreteDropout(nn.Linear(4, 2)))
    total = concrete_regularization(model)
    torch.testing.assert_close(total, model[0].regularization() + model[2].regularization())
    assert concrete_regularization(nn.ReLU()).item() == 0.0


def test_the_regulariser_alone_drives_the_rate_of_small_weights_to_one_half():
    layer = ConcreteDropout(nn.Linear(6, 4), 0.1, weight_regularizer=0.0, dropout_regularizer=1.0)
    optimizer = torch.optim.SGD([layer.logit], lr=0.5)
    for _ in range(100):
        optimizer.zero_grad()
        layer.regularization().backward()
        optimizer.step()
    assert layer.rate == pytest.approx(0.5, abs=1e-3)


def test_noise_in_the_inputs_that_hurts_lowers_the_rate():
    layer = identity(8, 0.3)
    optimizer = torch.optim.SGD([layer.logit], lr=1.0)
    for _ in range(50):
        x = torch.randn(64, 8)
        optimizer.zero_grad()
        (layer(x) - x).square().mean().backward()
        optimizer.step()
    assert layer.rate < 0.1


@pytest.mark.parametrize(
    ("module", "shape"),
    [(nn.Conv1d(6, 6, 1), (3, 6, 5)), (nn.Conv2d(6, 6, 1), (3, 6, 4, 5)), (nn.ConvTranspose2d(6, 6, 1), (3, 6, 4, 5))],
    ids=lambda value: type(value).__name__,
)
def test_convolutions_lose_whole_channels(module, shape):
    layer = ConcreteDropout(module, 0.5)
    seen = []
    module.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    layer(torch.ones(shape))
    masks = seen[0].flatten(2)
    assert masks.equal(masks[..., :1].expand_as(masks))
    assert masks[..., 0].unique().numel() > 12  # of 18 draws, some so near an end that they are equal
    assert layer.regularization().isfinite()


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_the_ends_are_exact_and_their_gradients_finite(rate):
    layer, x = identity(6, rate), torch.randn(4, 6, requires_grad=True)
    output = layer(x)
    (output.sum() + layer.regularization()).backward()
    assert output.equal(x if rate == 0.0 else torch.zeros_like(x))
    assert layer.rate == rate
    assert all(tensor.grad.isfinite().all() for tensor in (x, layer.logit, layer.module.weight))


def test_eval_is_the_module():
    layer, x = ConcreteDropout(nn.Linear(6, 4), 0.9).eval(), torch.randn(3, 6)
    assert layer(x).equal(layer.module(x))


def test_gradients_of_input_and_rate_are_those_of_the_fixed_noise():
    layer = identity(3, 0.3).double()

    def run(x, logit):
        torch.manual_seed(3)
        return torch.func.functional_call(layer, {"logit": logit}, x)

    inputs = torch.randn(4, 3, dtype=torch.float64, requires_grad=True), layer.logit.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(run, inputs)


def test_compiles_once_while_the_rate_is_learned():
    torch._dynamo.reset()
    layer, x = identity(4, 0.3), torch.ones(1000, 4)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for rate in (0.3, 0.5, 0.1):
            layer.rate = rate
            fraction = (compiled(x) * (1 - rate) < 0.5).double().mean().item()
            assert fraction == pytest.approx(rate, abs=5 * math.sqrt(rate * (1 - rate) / 4000))


def test_what_has_no_inputs_to_drop_is_refused():
    with pytest.raises(
        ValueError, match=r"^ConcreteDropout\(LSTM\) is neither linear nor convolutional\. Wrap one that is\.$"
    ):
        ConcreteDropout(nn.LSTM(2, 2))
