"""Rates that change every step in compiled models that are not ours."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lightning_dropout.sites import Sites, SiteWriter, find_sites
from lightning_dropout.sites.live import is_attachable

IDS = torch.arange(3, 19).view(2, 8)


def encoder() -> tuple[nn.Module, dict[str, Tensor]]:
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), {"src": torch.ones(2, 5, 16).cumsum(1)}


def hugging_face(name: str, config: str, **options: Any) -> tuple[nn.Module, dict[str, Tensor]]:
    transformers = pytest.importorskip("transformers")
    ids = {"input_ids": IDS}
    if "Conditional" in name:
        ids["decoder_input_ids"] = IDS
    if "Image" in name:
        ids = {"pixel_values": torch.ones(2, 3, 16, 16)}
    return getattr(transformers, name)(getattr(transformers, config)(vocab_size=50, **options)), ids


SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
BART = {
    **{f"{side}_{what}": 2 for side in ("encoder", "decoder") for what in ("layers", "attention_heads", "ffn_dim")},
    **{"d_model": 16, "activation_dropout": 0.1, "attention_dropout": 0.1, "forced_eos_token_id": None},
}
MODELS: dict[str, Callable[[], tuple[nn.Module, dict[str, Tensor]]]] = {
    "encoder": encoder,
    "gpt2": lambda: hugging_face("GPT2LMHeadModel", "GPT2Config", n_embd=16, n_layer=2, n_head=2, n_positions=32),
    "llama": lambda: hugging_face("LlamaForCausalLM", "LlamaConfig", attention_dropout=0.1, **SMALL),
    "bert": lambda: hugging_face("BertForSequenceClassification", "BertConfig", **SMALL),
    "bart": lambda: hugging_face("BartForConditionalGeneration", "BartConfig", **BART),
    "opt": lambda: hugging_face(
        "OPTForCausalLM", "OPTConfig", ffn_dim=32, word_embed_proj_dim=16, max_position_embeddings=32, **SMALL
    ),
    "vit": lambda: hugging_face(
        "ViTForImageClassification", "ViTConfig", image_size=16, patch_size=8, hidden_dropout_prob=0.1, **SMALL
    ),
}


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


@pytest.fixture
def drive() -> Iterator[Callable[..., SiteWriter]]:
    writers = []

    def make(sites: Sites, model: nn.Module) -> SiteWriter:
        writers.append(SiteWriter(sites, model=model, owner="test"))
        return writers[-1]

    yield make
    for writer in writers:
        writer.release()


Drive = Callable[[Sites, nn.Module], SiteWriter]


def graphs() -> int:
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def attachable(model: nn.Module) -> Sites:
    return Sites([site for site in find_sites(model) if is_attachable(site)])


def output(result: Any) -> Tensor:
    return result if isinstance(result, Tensor) else result.logits


@pytest.mark.parametrize("name", MODELS)
def test_a_rate_changed_every_step_keeps_one_graph_a_mode_and_is_live(name: str, drive: Drive) -> None:
    model, batch = MODELS[name]()
    model.train()
    compiled = torch.compile(model, backend="aot_eager")
    writer = drive(attachable(model), model)
    for step in range(10):
        writer.set(step / 10)
        output(compiled.train()(**batch)).sum().backward()
        if step % 4 == 0:
            compiled.eval()(**batch)
    assert graphs() == 2
    assert not torch._dynamo.utils.counters["graph_break"]

    compiled.train()
    writer.set(0.0)
    others = find_sites(model)
    with others.override(0.0):
        silent = output(model(**batch))
    torch.testing.assert_close(output(compiled(**batch)), silent, atol=1e-5, rtol=1e-4)
    writer.set(0.5)
    assert not torch.allclose(output(compiled(**batch)), silent, atol=1e-3)
    assert graphs() <= 3  # the override of sites that are not driven may be one more


def test_layers_that_are_compiled_one_by_one_share_their_code(drive: Drive) -> None:
    model, batch = MODELS["bert"]()
    writer = drive(find_sites(model), model)
    for layer in model.bert.encoder.layer:
        layer.compile(backend="aot_eager")
    for step in range(10):
        writer.set(step / 10)
        output(model.train()(**batch)).sum().backward()
    assert graphs() == 1


class Kinds(nn.Module):
    """One of every dropout call that a rate can go into, on ones, so that zeros are what was dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.element = nn.Dropout(0.1)
        self.channel1 = nn.Dropout1d(0.1)
        self.channel2 = nn.Dropout2d(0.1)
        self.channel3 = nn.Dropout3d(0.1)
        self.alpha = nn.AlphaDropout(0.1)
        self.feature_alpha = nn.FeatureAlphaDropout(0.1)
        self.drop_rate = 0.1
        self.attn_dropout = 0.1

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = x.view(500, 20, 10)
        v = torch.eye(20).expand(500, 20, 20)
        q = torch.zeros(500, 20, 4)
        return {
            "element": self.element(x),
            "channel1": self.channel1(maps),
            "channel2": self.channel2(maps[..., None]),
            "channel3": self.channel3(maps[..., None, None]),
            "alpha": self.alpha(x) - self.alpha(x).max(),
            "feature_alpha": self.feature_alpha(maps) - self.feature_alpha(maps).max(),
            "drop_rate": F.dropout(x, self.drop_rate, training=self.training),
            "attn_dropout": F.scaled_dot_product_attention(q, q, v, dropout_p=self.attn_dropout),
        }


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_realised_drop_fraction_follows_the_rate(rate: float, drive: Drive) -> None:
    model = Kinds()
    writer = drive(find_sites(model), model)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    writer.set(0.3)
    compiled(torch.ones(100_000))
    writer.set(rate)
    for name, result in compiled(torch.ones(100_000)).items():
        dropped = (result < 0) if "alpha" in name else (result == 0)
        if "alpha" in name and rate == 1.0:
            continue  # everything is zero, and the highest value too
        fraction = dropped.float().mean().item()
        assert fraction == pytest.approx(rate, abs=0.02), name
    assert graphs() == 1


class DropPath(nn.Module):
    """By its own arithmetic, as timm and torchvision do it."""

    def __init__(self) -> None:
        super().__init__()
        self.drop_prob = 0.1

    def forward(self, x: Tensor) -> Tensor:
        if self.drop_prob == 0.0 or not self.training:
            return x
        keep_prob = 1 - self.drop_prob
        kept = x.new_empty((x.shape[0], 1)).bernoulli_(keep_prob)
        return x * (kept.div_(keep_prob) if keep_prob > 0.0 else kept)


class FlooredDropPath(DropPath):
    """As Hugging Face's ConvNext does it."""

    def forward(self, x: Tensor) -> Tensor:
        if self.drop_prob == 0.0 or not self.training:
            return x
        keep_prob = 1 - self.drop_prob
        return x.div(keep_prob) * (keep_prob + torch.rand((x.shape[0], 1))).floor_()


class ComparingDropPath(DropPath):
    def forward(self, x: Tensor) -> Tensor:
        return torch.where(torch.rand((x.shape[0], 1)) < self.drop_prob, 0.0, x / (1.0 - self.drop_prob))


@pytest.mark.parametrize("module_class", [DropPath, FlooredDropPath, ComparingDropPath])
def test_a_rate_that_goes_into_arithmetic_is_live_too(module_class: type[DropPath], drive: Drive) -> None:
    model = module_class()
    writer = drive(find_sites(model), model)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for rate in (0.0, 0.2, 0.5, 1.0):
        writer.set(rate)
        result = compiled(torch.ones(50_000, 1))
        assert (result == 0).float().mean().item() == pytest.approx(rate, abs=0.01)
        if rate < 1.0:
            assert result.max().item() == pytest.approx(1 / (1 - rate), rel=1e-5)
    assert graphs() == 1


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": False},
        {"kdim": 6, "vdim": 6},
        {"add_bias_kv": True},
        {"add_zero_attn": True},
        {"batch_first": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("need_weights", [False, True])
def test_multi_head_attention_is_composed_as_torch_does_it(
    options: dict[str, Any], need_weights: bool, drive: Drive
) -> None:
    torch.manual_seed(0)
    model = nn.MultiheadAttention(8, 2, dropout=0.5, **options)
    width = options.get("kdim", 8)
    q, k = torch.randn(5, 5, 8), torch.randn(5, 5, width)
    masks = {"key_padding_mask": torch.arange(25).view(5, 5) % 5 == 4, "attn_mask": torch.ones(5, 5).triu(1).bool()}
    with find_sites(model).override(0.0):
        expected = model(q, k, k, need_weights=need_weights, **masks)
    writer = drive(find_sites(model), model)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    writer.set(0.9)
    dropped = compiled(q, k, k, need_weights=need_weights, **masks)
    writer.set(0.0)
    actual = compiled(q, k, k, need_weights=need_weights, **masks)
    if need_weights:
        assert torch.equal(actual[0], expected[0])
        assert torch.equal(actual[1], expected[1])
    else:
        torch.testing.assert_close(actual[0], expected[0])
    assert not torch.allclose(dropped[0], expected[0])
    assert graphs() == 1


class Checkpointed(nn.Module):
    def __init__(self, *, checkpointed: bool) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), Floats(), nn.Linear(8, 8))
        self.checkpointed = checkpointed

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = checkpoint(self.inner, x, use_reentrant=False) if self.checkpointed else self.inner(x)
        return x


class Floats(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dropout = 0.3

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, p=self.dropout, training=self.training)


@pytest.mark.parametrize("inside", [False, True])
def test_activation_checkpointing_draws_the_same_masks_again(inside: bool, drive: Drive) -> None:
    grads = []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        model = Checkpointed(checkpointed=checkpointed)
        writer = drive(find_sites(model), model)
        writer.set(0.4)
        if inside:
            model.compile(backend="aot_eager", fullgraph=True)
        else:
            model.inner.compile(backend="aot_eager")
        torch.manual_seed(1)
        model(torch.ones(4, 8)).square().sum().backward()
        grads.append([parameter.grad for parameter in model.parameters()])
        assert graphs() > 0
        writer.release()
        torch._dynamo.reset()
    assert all(map(torch.equal, *grads))
    assert not torch._dynamo.config.skip_fwd_side_effects_in_bwd_under_checkpoint


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated")
def test_hugging_face_checkpointing_inside_a_compiled_model_draws_the_same_masks_again(drive: Drive) -> None:
    model, batch = MODELS["llama"]()
    drive(find_sites(model), model).set(0.4)
    grads = []
    for checkpointed in (False, True):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        if checkpointed:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model.zero_grad()
        torch.manual_seed(1)
        compiled = torch.compile(model.train(), backend="aot_eager")
        output(compiled(**batch, use_cache=False)).square().sum().backward()
        grads.append([parameter.grad.clone() for parameter in model.parameters()])
        assert graphs() == 1
    assert all(map(torch.equal, *grads))


def test_while_driven_a_module_looks_like_itself(drive: Drive) -> None:
    model, _ = MODELS["bert"]()
    before = repr(model), list(model.state_dict()), [type(m).__name__ for m in model.modules()]
    writer = drive(find_sites(model), model)
    writer.set(0.1)
    assert (repr(model), list(model.state_dict()), [type(m).__name__ for m in model.modules()]) == before
    assert isinstance(model.dropout, nn.Dropout)
    writer.set(0.25)
    assert set(find_sites(model).rates().values()) == {0.25}
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert set(find_sites(twin).rates().values()) == {0.25}
        assert type(twin.dropout) is nn.Dropout
        assert not any("live" in name for module in twin.modules() for name in vars(module))


def test_saved_and_loaded_in_the_middle_of_a_fit_it_is_the_same_model(tmp_path: Any, drive: Drive) -> None:
    model, batch = MODELS["gpt2"]()
    drive(find_sites(model), model).set(0.7)
    model.save_pretrained(tmp_path)
    twin = type(model).from_pretrained(tmp_path)
    assert twin.config.resid_pdrop == 0.1
    assert torch.equal(output(twin(**batch)), output(model.eval()(**batch)))


def test_release_leaves_nothing_behind(drive: Drive) -> None:
    model, _ = MODELS["encoder"]()
    before = [(type(module), dict(vars(module))) for module in model.modules()]
    sites = find_sites(model)
    first = drive(sites.of_kind("attention"), model)
    second = drive(sites.of_kind("element"), model)
    for writer in (first, second):
        writer.set(0.9)
        writer.release()
    assert [(type(module), vars(module)) for module in model.modules()] == before
