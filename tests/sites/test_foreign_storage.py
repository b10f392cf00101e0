"""Where other libraries keep their rates, in classes of the same names and shapes as theirs."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_dropout.sites import find_sites, trace_sites, watch_dropout


def drop_path(x: Tensor, drop_prob: float, training: bool) -> Tensor:
    if drop_prob == 0.0 or not training:
        return x
    keep_prob = 1 - drop_prob
    mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep_prob)
    if keep_prob > 0.0:
        mask.div_(keep_prob)
    return x * mask


class DropPath(nn.Module):  # timm, and most of Hugging Face's under longer names
    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob
        self.scale_by_keep = True

    def forward(self, x: Tensor) -> Tensor:
        return drop_path(x, self.drop_prob, self.training)


class ConvNextDropPath(nn.Module):  # Hugging Face
    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        if self.drop_prob == 0.0 or not self.training:
            return x
        keep_prob = 1 - self.drop_prob
        mask = keep_prob + torch.rand((x.shape[0],) + (1,) * (x.ndim - 1))
        return x.div(keep_prob) * mask.floor_()


class StochasticDepth(nn.Module):  # torchvision
    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.mode = "row"

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        survival_rate = 1.0 - self.p
        noise = torch.empty([x.shape[0]] + [1] * (x.ndim - 1)).bernoulli_(survival_rate)
        return x * noise.div_(survival_rate)


class DropBlock2d(nn.Module):  # timm
    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob
        self.gamma_scale = 1.0
        self.block_size = 3

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.drop_prob:
            return x
        height, width = x.shape[-2:]
        gamma = self.gamma_scale * self.drop_prob * height * width / self.block_size**2 / ((height - 2) * (width - 2))
        seeds = torch.empty_like(x).bernoulli_(gamma)
        return x * (1 - F.max_pool2d(seeds, self.block_size, stride=1, padding=1))


class PatchDropout(nn.Module):  # timm
    def __init__(self, prob: float) -> None:
        super().__init__()
        self.prob = prob
        self.num_prefix_tokens = 1

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.prob == 0.0:
            return x
        num_keep = max(1, int(x.shape[1] * (1.0 - self.prob)))
        order = torch.argsort(torch.randn(x.shape[:2]), dim=-1)[:, :num_keep]
        return x.gather(1, order.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


class FairseqDropout(nn.Module):
    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.apply_during_inference = False

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, p=self.p, training=True) if self.training or self.apply_during_inference else x


class LockedDropout(nn.Module):  # AWD-LSTM
    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        mask = x.new_empty(1, *x.shape[1:]).bernoulli_(1 - self.p)
        return x * mask.div_(1 - self.p)


class ResNet(nn.Module):  # timm: before the classifier
    def __init__(self, drop_rate: float) -> None:
        super().__init__()
        self.drop_rate = drop_rate
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        if self.drop_rate:
            x = F.dropout(x, p=float(self.drop_rate), training=self.training)
        return self.fc(x)


class LoraLayer(nn.Module):  # PEFT
    def __init__(self, rate: float) -> None:
        super().__init__()
        self.lora_dropout = nn.ModuleDict({"default": nn.Dropout(rate)})

    def forward(self, x: Tensor) -> Tensor:
        return self.lora_dropout["default"](x)


TABLE = [
    (DropPath, "", "path"),
    (ConvNextDropPath, "", "path"),
    (StochasticDepth, "", "path"),
    (DropBlock2d, "", "block"),
    (PatchDropout, "", "token"),
    (FairseqDropout, "", "element"),
    (LockedDropout, "", "locked"),
    (ResNet, "", "element"),
    (LoraLayer, ".lora_dropout.default", "element"),
]


@pytest.mark.parametrize(("layer", "name", "kind"), TABLE)
def test_layers_of_other_libraries(layer: type[nn.Module], name: str, kind: str) -> None:
    model = nn.Sequential(layer(0.25))
    x = torch.ones(4, 6, 8, 4) if layer is DropBlock2d else torch.ones(4, 50, 4)
    (site,) = find_sites(model)
    assert (site.name, site.kind, site.rate) == (f"0{name}", kind, 0.25)

    (operation,) = trace_sites(model, x).operations
    assert (operation.site, operation.rate, operation.module) == (f"0{name}", 0.25, f"0{name}")
    assert site.rate == 0.25

    site.rate = 0.0
    state = torch.get_rng_state()
    assert layer is ResNet or torch.equal(model(x), x)
    assert layer is LockedDropout or torch.equal(torch.get_rng_state(), state)


class Embedder(nn.Module):
    """Keeps a float that nothing reads, beside the layer that was built from it."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout_rate = 0.1
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(x)

    def extra_repr(self) -> str:
        return f"dropout_rate={self.dropout_rate}"


def test_a_float_that_no_code_reads_is_no_site() -> None:
    assert find_sites(nn.Sequential(Embedder())).rates() == {"0.drop": 0.1}


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.activation_dropout = 0.2
        self.dropout = 0  # as a JSON file may have it
        self.use_dropout = True
        self.lr_drop = 0.1
        self.num_dropped = 0.5

    def forward(self, x: Tensor) -> Tensor:
        if self.use_dropout and self.lr_drop and self.num_dropped:
            x = F.dropout(x, self.activation_dropout, self.training)
        return F.dropout(x, getattr(self, "dropout"), self.training)  # noqa: B009


def test_floats_with_a_rates_name_that_code_reads_are_sites() -> None:
    sites = find_sites(nn.Sequential(Block()))
    assert sites.rates() == {"0.activation_dropout": 0.2, "0.dropout": 0.0}
    assert all(site.kind == "element" for site in sites)
    sites.set(0.3)
    with watch_dropout(nn.Module()) as events:
        nn.Sequential(sites[0].module)(torch.ones(2, 2))
    assert [event.rate for event in events] == [0.3, 0.3]
    sites.restore()
    assert sites.rates() == {"0.activation_dropout": 0.2, "0.dropout": 0.0}


class SdpaSelfAttention(nn.Module):
    """Has its rate twice: in a layer for one path, and in a float that was copied from it for the other."""

    def __init__(self, rate: float = 0.1, *, fused: bool = True) -> None:
        super().__init__()
        self.dropout = nn.Dropout(rate)
        self.dropout_prob = rate
        self.fused = fused
        self.out_drop = nn.Dropout(rate)

    def forward(self, x: Tensor) -> Tensor:
        if self.fused:
            return F.scaled_dot_product_attention(x, x, x, dropout_p=self.dropout_prob if self.training else 0.0)
        return self.dropout((x @ x.mT).softmax(-1)) @ x


@pytest.mark.parametrize("fused", [True, False])
def test_a_layer_and_the_float_copied_from_it_are_one_site(fused: bool) -> None:
    model = nn.Sequential(SdpaSelfAttention(fused=fused))
    sites = find_sites(model)
    assert [(site.name, site.kind) for site in sites] == [("0.dropout", "attention"), ("0.out_drop", "element")]
    sites[:1].set(0.4)
    assert model[0].dropout.p == model[0].dropout_prob == 0.4
    (operation,) = trace_sites(model, torch.randn(2, 5, 4)).operations
    assert (operation.site, operation.rate, operation.position) == ("0.dropout", 0.4, "weights")
    sites.restore()
    assert model[0].dropout.p == model[0].dropout_prob == 0.1


class NanoAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn_dropout = nn.Dropout(0.1)
        self.resid_dropout = nn.Dropout(0.1)
        self.dropout = 0.1

    def forward(self, x: Tensor) -> Tensor:
        return self.resid_dropout(F.scaled_dot_product_attention(x, x, x, dropout_p=self.dropout))


class NanoSelfAttention(NanoAttention):
    pass


def test_both_rates_of_the_attention_weights_are_one_site() -> None:
    assert [site.name for site in find_sites(NanoSelfAttention())] == ["attn_dropout", "resid_dropout"]


class Layers(nn.Module):
    """Rates in a tuple and in a list, and one that Python compares with a random number."""

    def __init__(self, *, as_list: bool) -> None:
        super().__init__()
        self.layer_dropouts = [0.1, 0.2] if as_list else (0.1, 0.2)
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for layer, rate in zip(self.layers, self.layer_dropouts, strict=True):
            if self.training and rate > 0.0 and torch.rand(1).item() < rate:
                continue
            x = layer(x)
        return x


@pytest.mark.parametrize("as_list", [True, False])
def test_items_of_a_sequence_are_sites_of_their_own(as_list: bool) -> None:
    model = nn.Sequential(Layers(as_list=as_list))
    sites = find_sites(model)
    assert sites.rates() == {"0.layer_dropouts.0": 0.1, "0.layer_dropouts.1": 0.2}
    assert {site.kind for site in sites} == {"layer"}
    sites.scale(0.5)
    assert model[0].layer_dropouts == ([0.05, 0.1] if as_list else (0.05, 0.1))
    sites.restore()
    assert model[0].layer_dropouts == ([0.1, 0.2] if as_list else (0.1, 0.2))
    assert [op.site for op in trace_sites(model, torch.ones(2, 4)).operations] == list(sites.rates())
    assert model[0].layer_dropouts == ([0.1, 0.2] if as_list else (0.1, 0.2))


class Configured(nn.Module):
    """Hands one rate of its config on when it is built, and reads another one in every forward."""

    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        self.config = config
        self.drop = nn.Dropout(config.hidden_dropout)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.drop(x), self.config.dropout, self.training)

    def estimate(self) -> float:
        return math.sqrt(self.config.attention_dropout)


def test_floats_of_a_config_are_sites_only_where_forward_reads_them() -> None:
    config = SimpleNamespace(dropout=0.1, hidden_dropout=0.2, attention_dropout=0.3)
    sites = find_sites(nn.Sequential(Configured(config), Configured(config)))
    assert sites.rates() == {"0.config.dropout": 0.1, "0.drop": 0.2, "1.drop": 0.2}
    assert sites[0].names == ("0.config.dropout", "1.config.dropout")
    sites.set(0.5)
    assert vars(config) == {"dropout": 0.5, "hidden_dropout": 0.2, "attention_dropout": 0.3}


class OldLayers(nn.Module):
    """Rates of the class, of Lightning's hyperparameters and of an argument parser."""

    dropout = 0.1

    def __init__(self) -> None:
        super().__init__()
        self.hparams = SimpleNamespace(drop_rate=0.2)
        self.args = SimpleNamespace(attention_dropout=0.3)

    def forward(self, x: Tensor) -> Tensor:
        args = self.args
        for rate in (self.dropout, self.hparams.drop_rate, args.attention_dropout):
            x = F.dropout(x, rate, self.training)
        return x


def test_rates_of_classes_and_of_settings_are_sites() -> None:
    model = OldLayers()
    sites = find_sites(model)
    assert sites.rates() == {"dropout": 0.1, "args.attention_dropout": 0.3, "hparams.drop_rate": 0.2}
    trace = trace_sites(model, torch.ones(4, 4))
    assert trace.silent == trace.unreachable == ()
    sites.set(0.5)
    sites.restore()
    assert sites.rates() == {"dropout": 0.1, "args.attention_dropout": 0.3, "hparams.drop_rate": 0.2}
    assert OldLayers().dropout == 0.1


class WeightDrop(nn.Module):  # AWD-LSTM
    def __init__(self, module: nn.Linear, dropout: float) -> None:
        super().__init__()
        self.module, self.dropout = module, dropout

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, F.dropout(self.module.weight, p=self.dropout, training=self.training))


def test_weights_that_are_dropped() -> None:
    (operation,) = trace_sites(nn.Sequential(WeightDrop(nn.Linear(4, 4), 0.2)), torch.ones(2, 4)).operations
    assert (operation.site, operation.kind, operation.shape) == ("0", "weight", (4, 4))


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn_drop = nn.Dropout(0.1)
        self.attn_dropout = FairseqDropout(0.1)
        self.proj_drop = nn.Dropout(0.1)
        self.self_attn_dropout = nn.Dropout(0.1)


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.1)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = SelfAttention()
        self.dropout = nn.Dropout(0.1)  # of the output


def test_the_kind_of_an_attention_dropout_is_told_from_its_name_and_its_owners() -> None:
    kinds = {site.name: site.kind for site in find_sites(nn.ModuleDict({"outer": Outer(), "layer": Attention()}))}
    assert kinds == {
        "outer.attn_drop": "attention",
        "outer.attn_dropout": "attention",
        "outer.proj_drop": "element",
        "outer.self_attn_dropout": "element",
        "layer.attn.dropout": "attention",
        "layer.dropout": "element",
    }
