"""What holds of every dropout layer as a module: its copies, its checkpoint, its devices, its site."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn

from lightning_dropout import layers
from lightning_dropout.layers import ConcreteDropout, DropConnect
from lightning_dropout.sites import find_sites

SIMPLE = [
    name
    for name, layer in vars(layers).items()
    if isinstance(layer, type) and issubclass(layer, layers.LiveRate) and layer not in (layers.LiveRate, DropConnect)
]
MODULES: dict[str, Callable[[float], nn.Module]] = {name: getattr(layers, name) for name in SIMPLE} | {
    "DropConnect-Linear": lambda rate: DropConnect(nn.Linear(3, 2), rate),
    "DropConnect-LSTM": lambda rate: DropConnect(nn.LSTM(3, 2), rate),
    "ConcreteDropout": lambda rate: ConcreteDropout(nn.Linear(3, 2), rate),
}
every_module = pytest.mark.parametrize("build", MODULES.values(), ids=MODULES)


@every_module
@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))], ids=["copy", "pickle"]
)
def test_copies_keep_the_rate_and_live_on_their_own(
    build: Callable[[float], nn.Module], clone: Callable[[nn.Module], nn.Module]
) -> None:
    layer = build(0.3)
    twin = clone(layer.eval())
    layer.rate = 0.7
    assert type(twin) is type(layer)
    assert twin.rate == pytest.approx(0.3)
    assert not twin.training
    assert str(twin) == str(build(0.3))
    assert all(a.equal(b) for a, b in zip(twin.parameters(), layer.parameters(), strict=True) if a.numel() > 1)


@every_module
def test_the_rate_of_a_schedule_is_no_part_of_the_checkpoint(build: Callable[[float], nn.Module]) -> None:
    layer = build(0.3)
    wrapped = {f"module.{name}" for name, _ in getattr(layer, "module", nn.Identity()).named_parameters()}
    learned = {"logit"} if layer.kind == "concrete" else set()
    assert set(layer.state_dict()) == wrapped | learned
    build(0.5).load_state_dict(layer.state_dict())


@every_module
def test_the_rate_survives_the_meta_device(build: Callable[[float], nn.Module]) -> None:
    layer = build(0.3).to("meta")
    assert layer.rate == 0.3
    layer.to_empty(device="cpu")
    if layer.kind == "concrete":
        layer.reset_parameters()
    assert layer.rate == pytest.approx(0.3)
    with torch.device("meta"):
        assert build(0.3).rate == 0.3


@every_module
@pytest.mark.parametrize("rate", [-0.1, 1.1, math.nan, "high", None])
def test_a_rate_that_is_no_probability_is_refused(build: Callable[[float], nn.Module], rate: object) -> None:
    layer = build(0.3)
    with pytest.raises(
        ValueError, match=rf"{type(layer).__name__} rate is .*Give the probability of dropping, in \[0, 1\]"
    ):
        build(rate)
    with pytest.raises(ValueError, match="rate is"):
        layer.rate = rate
    assert layer.rate == pytest.approx(0.3)


@every_module
def test_every_layer_is_a_site_that_can_be_set(build: Callable[[float], nn.Module]) -> None:
    layer = build(0.3)
    sites = find_sites(nn.ModuleDict({"here": layer}))
    assert [(site.name, site.kind) for site in sites] == [("here", layer.kind)]
    sites.set(0.25)
    assert layer.rate == pytest.approx(0.25)
