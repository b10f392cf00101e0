import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from sklearn.datasets import load_diabetes
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_dropout.layers import AlphaDropout, ConcreteDropout, DropConnect, Dropout, GaussianDropout
from lightning_dropout.models import MLP, MLPDropout
from lightning_dropout.modules import Regressor
from lightning_dropout.sites import find_sites

KINDS = {"element": Dropout, "gaussian": GaussianDropout, "alpha": AlphaDropout}


def activation(kind):
    return "selu" if kind == "alpha" else "relu"


@pytest.mark.parametrize("kind", KINDS)
def test_sites_stand_on_the_inputs_and_after_every_hidden_layer(kind):
    network = MLP(6, 2, widths=(5, 4), activation=activation(kind), dropout=MLPDropout(0.1, 0.3, kind=kind))
    sites = find_sites(network)
    assert sites.rates() == {"input": 0.1, "layers.0.hidden": 0.3, "layers.1.hidden": 0.3}
    assert isinstance(network.input, KINDS[kind])
    assert list(network.layers[0]._modules) == ["linear", "norm", "activation", "hidden"]


@pytest.mark.parametrize(("kind", "layer"), [("dropconnect", DropConnect), ("concrete", ConcreteDropout)])
def test_kinds_that_drop_inside_linear_layers_have_their_sites_there(kind, layer):
    network = MLP(6, 2, widths=(5, 4), dropout=MLPDropout(0.25, 0.5, kind=kind))
    assert find_sites(network).rates() == pytest.approx(
        {"layers.0.linear": 0.25, "layers.1.linear": 0.5, "output": 0.5}
    )
    assert isinstance(network.output, layer)


@pytest.mark.parametrize("kind", ["element", "gaussian", "alpha", "dropconnect"])
def test_sites_exist_at_rate_0_and_do_nothing(kind):
    torch.manual_seed(0)
    network = MLP(6, 2, widths=(5, 4), activation=activation(kind), dropout=MLPDropout(0.0, 0.0, kind=kind)).train()
    x = torch.randn(8, 6)
    assert len(find_sites(network)) == 3
    assert network(x).equal(network(x))
    find_sites(network).set(0.5)
    assert not network(x).equal(network(x))


@pytest.mark.parametrize("kind", [*KINDS, "concrete", "dropconnect"])
def test_eval_is_deterministic_and_training_is_not(kind):
    network = MLP(6, 2, activation=activation(kind), norm="layer", dropout=MLPDropout(kind=kind))
    x = torch.randn(8, 1, 2, 3)
    assert not network(x).equal(network(x))
    network.eval()
    assert network(x).equal(network(x))
    assert network(x).shape == (8, 2)


def test_batch_norm_stands_before_the_activation_and_never_before_dropout():
    network = MLP(6, 2, widths=(5,), norm="batch")
    layer = network.layers[0]
    assert list(layer._modules) == ["linear", "norm", "activation", "hidden"]
    x = torch.randn(16, 6)
    expected = layer.activation(layer.norm(layer.linear(x)))
    dropped = layer(x)
    assert dropped[dropped != 0].equal((expected * 2)[dropped != 0])


def test_alpha_dropout_keeps_self_normalisation():
    """Through ten layers of SELU and alpha dropout, mean and variance stay near 0 and 1."""
    torch.manual_seed(0)
    network = MLP(
        512, 512, widths=[512] * 10, activation="selu", dropout=MLPDropout(input=0.0, hidden=0.1, kind="alpha")
    )
    network.output = nn.Identity()
    hidden = network(torch.randn(512, 512))
    assert hidden.mean().abs() < 0.15
    assert hidden.var().item() == pytest.approx(1.0, abs=0.3)


def test_regularizers_reach_every_concrete_layer():
    dropout = MLPDropout(kind="concrete", weight_regularizer=0.5, dropout_regularizer=0.25)
    layers = [module for module in MLP(3, 2, dropout=dropout).modules() if isinstance(module, ConcreteDropout)]
    assert [(layer.weight_regularizer, layer.dropout_regularizer) for layer in layers] == [(0.5, 0.25)] * 3


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MLP(4, 2, dropout=MLPDropout(kind="alpha")), r"activation='relu', .*kind='alpha'.* Set activation="),
        (lambda: MLP(4, 2, activation="swish"), r"MLP\(activation='swish'\) is unknown\. Give one of relu"),
        (lambda: MLP(4, 2, norm="group"), r"MLP\(norm='group'\) is unknown\. Give one of batch, layer"),
        (lambda: MLP(4, 2, widths=(3, 0)), r"MLP\(widths=\(3, 0\)\): give whole numbers from 1 on"),
        (lambda: MLP(4, 2, widths=64), r"MLP\(widths=64\): give whole numbers from 1 on, such as \[64, 64\]"),
        (lambda: MLP(0, 2), r"MLP\(num_inputs=0\): give a whole number from 1 on"),
        (lambda: MLP(4, 2, dropout=0.2), r"MLP\(dropout=0.2\): each site has a rate of its own. Give a MLPDropout\("),
        (lambda: MLPDropout(kind="channel"), r"MLPDropout\(kind='channel'\) is unknown\. Give one of element"),
        (lambda: MLPDropout(hidden=1.5), r"MLPDropout hidden is 1\.5\. Give the probability"),
    ],
)
def test_what_makes_no_sense_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_dropout_holds_an_mlp_back_from_overfitting_diabetes():
    inputs, targets = (torch.tensor(x, dtype=torch.float32) for x in load_diabetes(return_X_y=True))
    inputs, targets = inputs / inputs.std(0), (targets - targets.mean()) / targets.std()
    train = DataLoader(TensorDataset(inputs[:300], targets[:300]), batch_size=300)
    val = DataLoader(TensorDataset(inputs[300:], targets[300:]), batch_size=300)

    def losses(rate):
        seed_everything(0)
        module = Regressor(MLP(10, 1, dropout=MLPDropout(input=0.0, hidden=rate)), lr=3e-3, warmup=0.0)
        trainer = Trainer(
            accelerator="cpu", max_epochs=150, check_val_every_n_epoch=150, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
        )  # fmt: skip
        trainer.fit(module, train, val)
        return [trainer.validate(module, data, verbose=False)[0]["val_loss"] for data in (train, val)]

    (train_without, val_without), (train_with, val_with) = losses(0.0), losses(0.7)
    assert train_without < 0.1 < train_with
    assert val_with + 0.1 < val_without
