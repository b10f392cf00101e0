import copy
import math

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lightning_dropout.layers import Dropout, LiveRate, RateVector
from lightning_dropout.layers.rate import check_rate


@pytest.fixture
def network():
    """Three layers whose rates are the entries of one vector."""
    layers = [Dropout(0.1), Dropout(0.2), Dropout(0.3)]
    rates = RateVector([layer.rate for layer in layers])
    for index, layer in enumerate(layers):
        layer.bind(rates, index)
    return nn.Sequential(nn.Linear(2, 2), *layers), rates


def rates_of(model):
    """Both forms of every rate, once they are known to agree."""
    layers = [module for module in model.modules() if isinstance(module, LiveRate)]
    for layer in layers:
        assert layer.rate_tensor.dtype == torch.float32
        assert layer.rate_tensor.item() == pytest.approx(layer.rate)
    return [layer.rate for layer in layers]


def test_one_write_reaches_every_layer_in_both_forms(network):
    model, rates = network
    rates.write(torch.tensor([0.4, 0.5, 0.6], dtype=torch.float64))
    assert rates_of(model) == [0.4, 0.5, 0.6]
    rates.fill(0.7)
    assert rates_of(model) == [0.7, 0.7, 0.7]
    rates[1] = 0.8
    assert rates_of(model) == [0.7, 0.8, 0.7]
    model[1].rate = 0.9
    assert list(rates) == [0.9, 0.8, 0.7]


@pytest.mark.parametrize(
    "move",
    [
        lambda model: model.bfloat16(),
        lambda model: model.half(),
        lambda model: model.double(),
        lambda model: model.to("cpu", torch.bfloat16),
        lambda model: model.to("meta").to_empty(device="cpu"),
        lambda model: model.share_memory(),
        lambda model: model.train(False).requires_grad_(False),
    ],
)
def test_a_bound_layer_follows_its_vector_after_a_move(network, move):
    model, rates = network
    move(model)
    rates.fill(0.123456789)
    assert rates_of(model) == [0.123456789] * 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_tensor_moves_with_the_model(network):
    model, rates = network
    model.cuda()
    rates.fill(0.25)
    assert {layer.rate_tensor.device.type for layer in model[1:]} == {"cuda"}
    assert rates_of(model) == [0.25] * 3
    assert copy.deepcopy(model)[1].rate_tensor.device.type == "cuda"
    model.cpu()
    rates.fill(0.5)
    assert {layer.rate_tensor.device.type for layer in model[1:]} == {"cpu"}
    assert rates_of(model) == [0.5] * 3


def test_a_deepcopy_of_a_bound_layer_has_rates_of_its_own(network):
    model, rates = network
    twin = copy.deepcopy(model)
    rates.fill(0.9)
    assert rates_of(twin) == [0.1, 0.2, 0.3]
    twin[1].rate = 0.5
    assert rates_of(model) == [0.9, 0.9, 0.9]


def test_averaging_of_weights_and_buffers_does_not_see_the_rates(network):
    model, rates = network
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    average.update_parameters(model)
    rates.fill(0.9)
    average.update_parameters(model)
    assert rates_of(average) == [0.1, 0.2, 0.3]
    assert rates_of(model) == [0.9, 0.9, 0.9]


def test_rates_are_neither_parameters_nor_buffers_nor_state(network):
    model, _ = network
    assert list(model.state_dict()) == ["0.weight", "0.bias"]
    assert not list(model.buffers())


def test_a_layer_built_under_the_meta_device_has_a_real_rate():
    with torch.device("meta"):
        layer = Dropout(0.3)
    assert rates_of(layer) == [0.3]


def test_rates_written_under_inference_mode_can_be_trained_with_later():
    with torch.inference_mode():
        layer = Dropout(0.3)
        layer.rate = 0.5
    assert not layer.rate_tensor.is_inference()
    assert rates_of(layer) == [0.5]


def test_a_layer_is_idle_where_it_has_nothing_to_drop():
    layer = Dropout(0.0)
    assert layer.idle
    layer.rate = 0.5
    assert not layer.idle
    assert layer.eval().idle


def test_a_layer_built_at_0_sleeps_until_it_is_driven():
    layer = Dropout(0.0)
    assert layer.dormant
    assert copy.deepcopy(layer).dormant
    layer.rate = 0.0
    assert layer.dormant
    layer.rate = 0.1
    layer.rate = 0.0
    assert not layer.dormant


@pytest.mark.parametrize("rate", [-1e-9, 1.0000001, math.nan, math.inf])
def test_a_rate_outside_0_to_1_is_refused(rate):
    with pytest.raises(ValueError, match=rf"^drop is {rate}. Give the probability of dropping, in \[0, 1\]\.$"):
        check_rate(rate, what="drop")


def test_what_is_no_number_is_refused():
    with pytest.raises(ValueError, match=r"^rate is 'high', which is no number\. Give the probability"):
        check_rate("high")


def test_numbers_of_any_kind_are_rates():
    assert check_rate(1) == 1.0
    assert check_rate(torch.tensor(0.5)) == 0.5
