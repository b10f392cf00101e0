import copy
import pickle

import pytest
import torch
from torch import nn
from torch.func import functional_call

from lightning_dropout.layers import DropConnect
from lightning_dropout.layers.mask import keep_mask

WEIGHTED = [
    (nn.Linear(6, 5), (4, 6)),
    (nn.Conv1d(6, 4, 3, groups=2), (2, 6, 8)),
    (nn.Conv2d(3, 4, 3, padding="same"), (2, 3, 6, 6)),
    (nn.Conv3d(2, 3, 2), (2, 2, 4, 4, 4)),
    (nn.ConvTranspose2d(3, 4, 3, stride=2), (2, 3, 5, 5)),
]
RECURRENT = [
    nn.RNN(3, 4, batch_first=True),
    nn.GRU(3, 4, num_layers=2, batch_first=True),
    nn.LSTM(3, 4, num_layers=2, bidirectional=True, batch_first=True),
]


def dropped_by_hand(module, names, rate):
    weights = {}
    for name in names:
        weight = module.get_parameter(name)
        weights[name] = (weight * keep_mask(weight.shape, rate, weight.device) / (1 - rate)).detach()
    return weights


@pytest.mark.parametrize(("module", "shape"), WEIGHTED, ids=lambda value: type(value).__name__)
def test_linear_and_convolutional_layers_lose_weights_but_no_biases(module, shape):
    x = torch.randn(shape)
    torch.manual_seed(2)
    expected = functional_call(module, dropped_by_hand(module, ["weight"], 0.4), x)
    torch.manual_seed(2)
    layer = DropConnect(module, 0.4)
    torch.testing.assert_close(layer(x), expected)
    assert layer.eval()(x).equal(module(x))


@pytest.mark.parametrize("module", RECURRENT, ids=str)
def test_recurrent_layers_lose_recurrent_weights_with_one_mask_for_the_sequence(module):
    x, layer = torch.randn(2, 7, 3), DropConnect(module, 0.4)
    names = [name for name, _ in module.named_parameters() if "_hh_" in name and "weight" in name]
    assert list(layer.weights) == names
    torch.manual_seed(2)
    twin = copy.deepcopy(module)
    twin.load_state_dict(dropped_by_hand(module, names, 0.4), strict=False)
    torch.manual_seed(2)
    torch.testing.assert_close(layer(x)[0], twin(x)[0])


def test_an_rnn_is_whole_again_after_every_step():
    rnn = nn.LSTM(3, 4)
    layer, x, before = DropConnect(rnn, 0.5), torch.randn(5, 2, 3), copy.deepcopy(rnn)
    parameters = list(rnn.parameters())
    for _ in range(2):
        layer.train()
        assert not layer(x)[0].equal(before(x)[0])
        layer.eval()
        assert layer(x)[0].equal(before(x)[0])
    assert all(a is b for a, b in zip(rnn.parameters(), parameters, strict=True))
    twin = pickle.loads(pickle.dumps(layer))
    assert twin(x)[0].equal(before(x)[0])


def test_an_optimizer_step_reaches_the_next_forward():
    layer, x = DropConnect(nn.GRU(3, 4), 0.5), torch.randn(5, 2, 3)
    before = layer.eval()(x)[0]
    layer.train()(x)[0].square().sum().backward()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.sub_(parameter.grad)
    assert not layer.eval()(x)[0].equal(before)


def test_a_dropped_weight_gets_no_gradient():
    layer = DropConnect(nn.Linear(8, 8, bias=False), 0.5)
    x = torch.eye(8)
    output = layer(x)
    output.sum().backward()
    assert layer.module.weight.grad.equal(torch.where(output.T != 0, 2.0, 0.0))


def test_names_choose_the_weights():
    rnn = nn.RNN(3, 4)
    layer = DropConnect(rnn, 1.0, weights=["weight_ih_l0", "bias_ih_l0", "bias_hh_l0"])
    assert not layer(torch.randn(5, 2, 3))[0].any()


def test_weights_of_a_checkpoint_keep_their_names_under_module():
    linear = nn.Linear(3, 2)
    layer = DropConnect(nn.Linear(3, 2), 0.3)
    layer.module.load_state_dict(linear.state_dict())
    assert layer.eval()(torch.ones(1, 3)).equal(linear(torch.ones(1, 3)))
    assert str(layer).startswith("DropConnect(\n  rate=0.3, weights=['weight']")


def test_a_linear_layer_compiles_into_one_graph():
    torch._dynamo.reset()
    layer = DropConnect(nn.Linear(8, 8, bias=False), 0.5)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for rate in (0.5, 0.0, 1.0):
            layer.rate = rate
            output = compiled(torch.eye(8))
            output.sum().backward()
    assert not output.any()
    assert layer.module.weight.grad.isfinite().all()


def test_a_name_that_is_no_weight_is_refused():
    message = (
        r"^DropConnect\(ReLU, weights=\['weight'\]\): there is no 'weight'\. Found: no parameters\. Change weights="
    )
    with pytest.raises(ValueError, match=message):
        DropConnect(nn.ReLU(), 0.1)
    with pytest.raises(ValueError, match=r"there is no 'wieght'\. Found: weight, bias\. Change weights="):
        DropConnect(nn.Linear(2, 2), 0.1, weights=["wieght"])
