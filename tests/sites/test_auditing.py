from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_dropout import layers
from lightning_dropout.sites import Audit, audit, find_sites

VECTORS = torch.randn(4, 16)
WORDS = torch.randn(4, 5, 16)
IMAGES = torch.randn(4, 3, 8, 8)


def model(forward: Callable[..., Any], **attributes: nn.Module | float | None) -> nn.Module:
    """A model with these attributes; ``forward`` takes it and its input."""
    self = type("Model", (nn.Module,), {"forward": forward})()
    for name, value in attributes.items():
        setattr(self, name, value)
    return self


def mlp(*middle: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(16, 16), *middle, nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))


def convnet(*middle: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), *middle)


def attention(*, scores: float, weights: float) -> nn.Module:
    def forward(self: Any, x: Tensor) -> Tensor:
        masked = self.on_scores(x @ x.mT) / 4 + torch.zeros(5, 5)
        return self.on_weights(masked.softmax(-1)) @ x

    return model(forward, on_scores=nn.Dropout(scores), on_weights=nn.Dropout(weights))


def additive_attention(rate: float) -> nn.Module:
    def forward(self: Any, x: Tensor) -> Tensor:
        weights = self.drop(self.energy(x.tanh())).softmax(dim=1)
        return torch.bmm(weights.transpose(1, 2), x)

    return model(forward, energy=nn.Linear(16, 1), drop=nn.Dropout(rate))


def classifier_with_loss(*, after: float, before: float) -> nn.Module:
    def forward(self: Any, x: Tensor) -> dict[str, Tensor]:
        return {"loss": F.cross_entropy(self.after(self.head(self.before(x))).float(), torch.zeros(4).long())}

    return model(forward, before=nn.Dropout(before), head=nn.Linear(16, 2), after=nn.Dropout(after))


def on_input(drop: Callable[[Any, Tensor], Tensor], **attributes: float) -> nn.Module:
    """Applies ``drop`` to the input of two layers."""
    return model(lambda self, x: self.b(self.a(drop(self, x))), a=nn.Linear(16, 16), b=nn.Linear(16, 2), **attributes)


def with_modes(net: nn.Module, *, off: str, frozen: str = "nothing") -> nn.Module:
    for name, module in net.named_modules():
        if name.startswith(off):
            module.training = False
        if name.startswith(frozen):
            module.requires_grad_(False)
    return net


def elided(*, read: bool) -> nn.Module:
    return model(
        (lambda self, x: x if self.sublayer_dropout is None else -x) if read else (lambda self, x: x),
        sublayer_dropout=None,
    )


def inner(rate: float) -> nn.Module:
    return mlp(nn.Sequential(nn.Linear(16, 16), nn.Dropout(rate)))


class Fused(nn.Module):
    def __init__(self, *, always: bool) -> None:
        super().__init__()
        self.attention_dropout = 0.1
        self.always = always

    def forward(self, x: Tensor) -> Tensor:
        rate = self.attention_dropout if self.always or self.training else 0.0
        return F.scaled_dot_product_attention(x, x, x, dropout_p=rate)


class Patches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.drop = nn.Conv2d(3, 4, 2, stride=2), nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.embed(x).flatten(2).transpose(1, 2))


Case = tuple[nn.Module, Tensor, list[str]]
BREAKS: dict[str, list[Case]] = {
    "LD001": [
        (mlp(nn.BatchNorm1d(16), nn.Dropout(0.1)), VECTORS, ["2"]),
        (convnet(nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout2d(0.1)), IMAGES, ["3"]),
        (mlp(nn.BatchNorm1d(16), nn.GELU(), layers.Dropout(0.1)), VECTORS, ["3"]),
    ],
    "LD002": [
        (attention(scores=0.1, weights=0.1), WORDS, ["on_scores"]),
        (additive_attention(0.1), WORDS, ["drop"]),
    ],
    "LD003": [
        (mlp(nn.Dropout(0.1), nn.Dropout(0.2)), VECTORS, ["2"]),
        (mlp(nn.Dropout(0.1), nn.ReLU(), layers.Dropout(0.2)), VECTORS, ["3"]),
        (
            model(lambda self, x: self.b(F.dropout(self.a(x), training=False)), a=nn.Dropout(0.1), b=nn.Dropout(0.1)),
            VECTORS,
            ["b"],
        ),
    ],
    "LD004": [
        (nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2), nn.Dropout(0.1)), VECTORS, ["3"]),
        (classifier_with_loss(before=0.0, after=0.1), VECTORS, ["after"]),
    ],
    "LD005": [
        (convnet(nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.1)), IMAGES, ["3"]),
        (nn.Sequential(nn.Conv1d(5, 4, 3), nn.Conv1d(4, 4, 1), nn.Dropout(0.1)), WORDS, ["2"]),
    ],
    "LD006": [
        (mlp(nn.Dropout(0.6)), VECTORS, ["1"]),
        (on_input(lambda self, x: F.dropout(x, 0.7, self.training)), VECTORS, [""]),
    ],
    "LD007": [
        (mlp(nn.Dropout2d(0.1)), VECTORS, ["1"]),
        (mlp(layers.Dropout2d(0.1)), WORDS, ["1"]),
    ],
    "LD008": [
        (on_input(lambda self, x: F.dropout(x, 0.1)), VECTORS, [""]),
        (nn.Sequential(Fused(always=True)), WORDS, ["0"]),
    ],
    "LD009": [
        (with_modes(mlp(nn.Dropout(0.1)), off=""), VECTORS, [""]),
        (with_modes(inner(0.1), off="1"), VECTORS, ["1.1"]),
    ],
    "LD010": [
        (
            model(
                lambda self, x: self.drop_path(self.lora_dropout["default"](x)),
                drop_path=nn.Identity(),
                lora_dropout=nn.ModuleDict({"default": nn.Identity()}),
            ),
            VECTORS,
            ["drop_path", "lora_dropout.default"],
        ),
        (elided(read=True), VECTORS, ["sublayer_dropout"]),
    ],
}
NEAR_MISSES: dict[str, list[tuple[nn.Module, Tensor]]] = {
    "LD001": [
        (mlp(nn.BatchNorm1d(16), nn.Linear(16, 16), nn.Dropout(0.1)), VECTORS),
        (mlp(nn.LayerNorm(16), nn.Dropout(0.1)), VECTORS),
        (mlp(nn.Dropout(0.1), nn.BatchNorm1d(16)), VECTORS),
        (mlp(nn.BatchNorm1d(16), nn.Dropout(0.0)), VECTORS),
        (convnet(nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1)), IMAGES),
        (convnet(nn.BatchNorm2d(4), layers.DropPath(0.1)), IMAGES),
    ],
    "LD002": [
        (attention(scores=0.0, weights=0.1), WORDS),
        (nn.Sequential(nn.Linear(16, 16), nn.Dropout(0.1), nn.Linear(16, 4), nn.Softmax(dim=-1)), WORDS),
        (nn.Sequential(nn.Linear(16, 4), nn.Dropout(0.1), nn.Softmax(dim=-1)), WORDS),
    ],
    "LD003": [
        (mlp(nn.Dropout(0.1), nn.Linear(16, 16), nn.Dropout(0.1)), VECTORS),
        (mlp(nn.Dropout(0.1), nn.Dropout(0.0)), VECTORS),
        (mlp(nn.Dropout(0.1), layers.DropPath(0.1)), VECTORS),
        (mlp(nn.Dropout(0.1), nn.LayerNorm(16), nn.Dropout(0.1)), VECTORS),
    ],
    "LD004": [
        (classifier_with_loss(before=0.1, after=0.0), VECTORS),
        (nn.Sequential(nn.Linear(16, 16), nn.LayerNorm(16), nn.Dropout(0.1)), VECTORS),
        (nn.TransformerEncoderLayer(16, 2, 16, batch_first=True), WORDS),
    ],
    "LD005": [
        (convnet(nn.ReLU(), nn.Dropout2d(0.1)), IMAGES),
        (convnet(nn.Flatten(), nn.Dropout(0.1)), IMAGES),
        (convnet(nn.AdaptiveAvgPool2d(1), nn.Dropout(0.1)), IMAGES),
        (nn.Sequential(nn.Conv1d(5, 8, 1), nn.Dropout(0.1)), WORDS),
        (Patches(), IMAGES),
    ],
    "LD006": [
        (mlp(nn.Dropout(0.5)), VECTORS),
        (nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Dropout(0.8), nn.Linear(16, 2)), VECTORS),
        (nn.Sequential(layers.TokenDropout(0.75)), WORDS),
    ],
    "LD007": [
        (convnet(nn.Dropout2d(0.1)), IMAGES),
        (mlp(nn.Dropout1d(0.1)), WORDS),
        (mlp(nn.Dropout(0.1)), WORDS),
    ],
    "LD008": [
        (on_input(lambda self, x: F.dropout(x, 0.1, self.training)), VECTORS),
        (nn.Sequential(Fused(always=False)), WORDS),
        (on_input(lambda self, x: x + torch.randn_like(x)), VECTORS),
        (
            on_input(lambda self, x: F.dropout(x + torch.randn_like(x), self.drop_rate, self.training), drop_rate=0.1),
            VECTORS,
        ),
        (on_input(lambda self, x: F.dropout(x, self.drop_rate), drop_rate=0.0), VECTORS),
    ],
    "LD009": [
        (with_modes(inner(0.1), off="1", frozen="1"), VECTORS),
        (with_modes(inner(0.0), off=""), VECTORS),
        (with_modes(inner(0.1), off="0"), VECTORS),
    ],
    "LD010": [
        (mlp(nn.Dropout(0.0)), VECTORS),
        (nn.Sequential(nn.Identity()), VECTORS),
        (elided(read=False), VECTORS),
    ],
}
pytestmark = pytest.mark.filterwarnings("ignore:dropout2d. Received a")


@pytest.mark.parametrize(("code", "case"), [(code, case) for code, cases in BREAKS.items() for case in cases])
def test_breaks_of_a_rule_are_found(code: str, case: Case) -> None:
    net, x, sites = case
    assert [finding.site for finding in audit(net, x) if finding.code == code] == sites


@pytest.mark.parametrize(("code", "case"), [(code, case) for code, cases in NEAR_MISSES.items() for case in cases])
def test_near_misses_are_not(code: str, case: tuple[nn.Module, Tensor]) -> None:
    assert code not in audit(*case).codes


def test_every_rule_says_what_was_found_why_it_matters_and_what_to_do() -> None:
    for cases in BREAKS.values():
        for finding in audit(*cases[0][:2]):
            assert all(
                (finding.title, finding.found.endswith("."), finding.why.endswith("."), finding.advice[-1] == ".")
            )


def test_findings_name_sites_and_lines() -> None:
    (finding,) = audit(*BREAKS["LD008"][0][:2])
    assert finding.found.startswith("F.dropout in '' (test_auditing.py:")
    (finding,) = audit(*BREAKS["LD003"][0][:2])
    assert "'2' (test_auditing.py:" in finding.found
    assert "together they drop 0.28" in finding.found


def test_rules_are_silenced_by_their_code() -> None:
    net = mlp(nn.BatchNorm1d(16), nn.Dropout(0.6), nn.Dropout(0.1))
    assert audit(net, VECTORS).codes == ("LD001", "LD003", "LD006")
    assert audit(net, VECTORS, ignore=("LD003", "LD001")).codes == ("LD006",)
    with pytest.raises(ValueError, match=r"audit\(ignore='LD1'\) is the code of no rule. Found: LD001, LD002"):
        audit(net, VECTORS, ignore=["LD1"])


def test_prints_repeated_blocks_as_one_row() -> None:
    blocks = nn.Sequential(*(mlp(nn.BatchNorm1d(16), nn.Dropout(0.1))[:3] for _ in range(4)))
    findings = audit(blocks, VECTORS)
    assert len(findings) == 4
    assert isinstance(findings[1:], Audit)
    assert "*.* (4)" in str(findings)
    assert json.loads(json.dumps(findings.to_dict()))["findings"][3]["site"] == "3.2"
    assert str(audit(mlp(nn.Dropout(0.1)), VECTORS)) == "no findings"


def test_the_model_comes_back_as_it_was() -> None:
    net = with_modes(mlp(nn.BatchNorm1d(16), nn.Dropout(0.1)), off="2")
    modes, rates = [module.training for module in net.modules()], find_sites(net).rates()
    mean, state = net[1].running_mean.clone(), torch.get_rng_state()
    audit(net, VECTORS)
    assert [module.training for module in net.modules()] == modes
    assert find_sites(net).rates() == rates
    assert torch.equal(net[1].running_mean, mean)
    assert torch.equal(torch.get_rng_state(), state)
