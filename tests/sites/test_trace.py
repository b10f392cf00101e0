from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_dropout import layers
from lightning_dropout.sites import SiteWriter, find_sites, trace_sites, watch_dropout

X = torch.randn(8, 64, 16)


class Net(nn.Module):
    """Dropout that a site drives, dropout that none drives, a site that never runs, and other random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden_dropout = 0.1
        self.config = {"rate": 0.2}
        self.body = nn.Sequential(nn.Linear(16, 16), nn.Dropout(0.0))
        self.unused = nn.Dropout(0.4)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = F.dropout(self.body(x), self.hidden_dropout, self.training)
        x = F.dropout(x, 0.25)
        x = F.dropout(x, self.config["rate"], self.training)
        return x + torch.randn_like(x)


def line_of(text: str) -> int:
    return next(i for i, line in enumerate(Path(__file__).read_text().splitlines(), start=1) if text in line)


def test_operations_name_site_rate_shape_calls_module_and_line() -> None:
    net = nn.Sequential(Net())
    trace = trace_sites(net, X)
    first, second, constant, unreachable = trace.operations
    assert (first.site, first.kind, first.rate, first.call) == ("0.body.1", "element", 0.0, "F.dropout")
    assert (first.shape, first.num_calls, first.module) == ((8, 64, 16), 3, "0.body.1")
    assert (second.site, second.rate, second.num_calls, second.module) == ("0", 0.1, 3, "0")
    assert (second.file, second.line) == (__file__, line_of("F.dropout(self.body(x), self.hidden"))
    assert (constant.site, constant.rate, constant.line) == (None, 0.25, line_of("F.dropout(x, 0.25)"))
    assert (unreachable.site, unreachable.rate, unreachable.line) == (None, 0.2, line_of('self.config["rate"], self'))
    assert trace.unreachable == (constant, unreachable)
    assert trace.constants == (constant,)
    assert trace.of_site("0") == (second,)
    assert trace.silent == ("0.unused",)
    assert trace.draws == (f"torch.randn_like at {__file__}:{line_of('torch.randn_like(x)')}",)


def test_prints_as_a_table_and_as_json() -> None:
    trace = trace_sites(nn.Sequential(Net()), X)
    text = str(trace)
    assert "constant in '0'" in text
    assert "no site in '0'" in text
    assert "never" in next(line for line in text.splitlines() if "0.unused" in line)
    assert "Also drew random numbers: torch.randn_like" in text
    loaded = json.loads(json.dumps(trace.to_dict()))
    assert loaded["silent"] == ["0.unused"]
    assert [op["site"] for op in loaded["operations"]] == ["0.body.1", "0", None, None]
    assert repr(trace) == "SiteTrace(4 operations, 1 silent sites)"
    assert str(trace_sites(nn.Linear(16, 16), X)) == "no dropout"


IMAGES = torch.rand(64, 32, 12, 12) + 0.5


class Attention(nn.Module):
    def __init__(self, module: nn.Module, position: str) -> None:
        super().__init__()
        self.drop = module
        self.position = position

    def forward(self, x: Tensor) -> Tensor:
        scores = x @ x.transpose(-2, -1) / 4.0
        if self.position == "scores":
            scores = self.drop(scores) + torch.zeros(64, 64)
        weights = scores.float().softmax(-1).to(x.dtype)
        if self.position == "weights":
            weights = self.drop(weights)
        context = weights @ x
        if self.position == "context":
            context = self.drop(context.reshape(8, 64, 4, 4).flatten(2))
        return context


class Fused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention_dropout = 0.1
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.ones(64, 64, dtype=torch.bool).tril()
        x = x.view(8, 1, 64, 16)
        y = F.scaled_dot_product_attention(x, x, value=x, attn_mask=mask, dropout_p=self.attention_dropout)
        return self.drop(y.transpose(1, 2).reshape(8, 64, 16))


MEASURED: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "element": (lambda: nn.Dropout(0.1), X),
    "in place": (lambda: nn.Sequential(nn.Linear(16, 16), nn.ReLU(inplace=True), nn.Dropout(0.1, inplace=True)), X),
    "channel": (lambda: nn.Dropout2d(0.1), IMAGES),
    "alpha": (lambda: nn.AlphaDropout(0.1), X),
    "feature alpha": (lambda: nn.FeatureAlphaDropout(0.1), IMAGES),
    "ours": (lambda: layers.Dropout(0.1), X),
    "path": (lambda: layers.DropPath(0.1), torch.ones(4000, 2)),
    "locked": (lambda: layers.LockedDropout(0.1), torch.ones(64, 3, 64)),
    "weights": (lambda: Attention(nn.Dropout(0.1), "weights"), X),
    "sdpa": (Fused, X),
    "multi-head": (lambda: nn.MultiheadAttention(16, 2, dropout=0.1, batch_first=True), X),
    "DropConnect": (lambda: layers.DropConnect(nn.Linear(16, 200), 0.1), X),
    "by hand": (lambda: ByHand(), X),
}


class ByHand(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop_rate = 0.1

    def forward(self, x: Tensor) -> Tensor:
        kept = torch.rand(x.shape) < 1 - self.drop_rate
        return x * kept / (1 - self.drop_rate)


@pytest.mark.parametrize("case", MEASURED)
def test_the_realised_fraction_is_that_of_the_rate_in_the_run(case: str) -> None:
    torch.manual_seed(0)
    build, x = MEASURED[case]
    model = build()
    operation = trace_sites(model, *([x] * (3 if case == "multi-head" else 1))).operations[0]
    assert operation.site is not None
    assert operation.rate == 0.1
    assert operation.probe is not None
    assert operation.probe != operation.rate
    assert operation.dropped == pytest.approx(operation.probe, abs=0.05)


def test_blocks_drop_about_their_rate() -> None:
    (operation,) = trace_sites(layers.DropBlock2d(0.1, block_size=3), IMAGES).operations
    assert operation.shape == IMAGES.shape
    assert operation.dropped == pytest.approx(operation.probe, abs=0.1)


@pytest.mark.parametrize("position", ["scores", "weights", "context"])
def test_where_in_attention_a_dropout_sits(position: str) -> None:
    (operation,) = trace_sites(nn.Sequential(Attention(nn.Dropout(0.1), position)), X).operations
    assert operation.position == position


def test_fused_attention_drops_weights_and_its_output_is_context() -> None:
    operations = trace_sites(Fused(), X).operations
    assert [(op.call, op.position) for op in operations] == [
        ("F.scaled_dot_product_attention", "weights"),
        ("F.dropout", "context"),
    ]


def test_a_softmax_outside_attention_has_no_position() -> None:
    class Router(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.drop = nn.Linear(16, 4), nn.Dropout(0.1)

        def forward(self, x: Tensor) -> Tensor:
            return self.drop(self.gate(self.drop(x))).softmax(-1)

    assert {op.position for op in trace_sites(Router(), X).operations} == {None}


def test_recurrent_layers_and_multi_head_attention_are_composites() -> None:
    rnn = trace_sites(nn.LSTM(16, 8, num_layers=2, dropout=0.2, batch_first=True), X).operations[0]
    assert (rnn.call, rnn.kind, rnn.rate, rnn.dropped, rnn.position) == ("torch.lstm", "recurrent", 0.2, None, None)
    encoder = trace_sites(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), X)
    assert [(op.site, op.position) for op in encoder.operations] == [
        ("self_attn", "weights"),
        ("dropout1", None),
        ("dropout", None),
        ("dropout2", None),
    ]


def test_a_recurrent_layer_alone_has_no_operation() -> None:
    with pytest.warns(UserWarning, match="non-zero dropout expects num_layers greater than 1"):
        model = nn.GRU(16, 8, dropout=0.5)
    assert trace_sites(model, X).operations == ()


class OurLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.words = nn.Embedding(10, 16), layers.EmbeddingDropout(0.1)
        self.tokens, self.masked = layers.TokenDropout(0.1), layers.TokenDropout(0.1, how="mask")
        self.gaussian, self.heads = layers.GaussianDropout(0.1), layers.HeadDropout(0.1)
        self.concrete, self.layer = layers.ConcreteDropout(nn.Linear(16, 16), 0.1), layers.LayerDropout(1.0)
        self.inner = nn.Dropout(0.1)

    def forward(self, ids: Tensor) -> Tensor:
        x, _ = self.masked(self.tokens(self.words(self.embedding, ids))[0])
        x = self.concrete(self.gaussian(self.heads(x[:, None])[:, 0]))
        return self.layer(x, self.inner(x))


@pytest.mark.parametrize("num_runs", [1, 2])
def test_our_layers_that_draw_their_own_masks_are_seen(num_runs: int) -> None:
    model = OurLayers()
    learned = model.concrete.logit.clone()
    for _ in range(num_runs):
        trace = trace_sites(model, torch.randint(0, 10, (4, 12)))
    assert trace.silent == ()
    assert trace.unreachable == ()
    assert trace.draws == ()
    assert {op.site: op.kind for op in trace.operations} == {site.name: site.kind for site in find_sites(model)}
    assert model.concrete.logit.equal(learned)


class Sampler(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop_path_rate = 0.1

    def forward(self, x: Tensor) -> Tensor:
        keep = 1.0 - self.drop_path_rate
        x = x / keep * (keep + torch.rand(len(x), 1, 1)).floor()
        return x + torch.randn_like(x)


def test_a_sampler_beside_a_dropout_made_by_hand_is_none() -> None:
    for _ in range(2):
        trace = trace_sites(nn.Sequential(Sampler(), Sampler()), X)
        assert [(op.site, op.call, op.num_calls) for op in trace.operations] == [
            ("0", "torch.rand", 1),
            ("1", "torch.rand", 1),
        ]
        assert len(trace.draws) == 1


def test_names_of_modules_are_those_of_sites_under_data_parallelism() -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(16, 16), nn.Dropout(0.1)))
        assert [(op.site, op.module) for op in trace_sites(model, X).operations] == [("1", "1")]
    finally:
        dist.destroy_process_group()


TORCH_MODELS = {
    "nn.Transformer": (nn.Transformer(16, 2, 2, 2, 32, batch_first=True), (X, X), 20),
    "nn.LSTM": (nn.LSTM(16, 8, 3, dropout=0.1), (X,), 1),
    "nn.GRU": (nn.GRU(16, 8, 2, dropout=0.1, bidirectional=True), (X,), 1),
}


@pytest.mark.parametrize("name", TORCH_MODELS)
def test_every_dropout_of_torchs_own_models_is_reached(name: str) -> None:
    model, inputs, num_operations = TORCH_MODELS[name]
    sites = find_sites(model)
    trace = trace_sites(model, *inputs)
    assert len(trace.operations) == num_operations
    assert trace.silent == trace.unreachable == trace.draws == ()
    sites.set(0.0)
    state = torch.get_rng_state()
    model(*inputs)
    assert torch.equal(torch.get_rng_state(), state)
    sites.set(0.3)
    with watch_dropout(model) as events:
        model(*inputs)
    assert len(events) == num_operations
    assert {event.rate for event in events} == {0.3}


class Skips(nn.Module):
    def __init__(self, draw: Callable[[], float]) -> None:
        super().__init__()
        self.layerdrop = 1.0
        self.draw = draw
        self.inner = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.layerdrop > 0.0 and self.draw() < self.layerdrop:
            return x
        return self.inner(x)


@pytest.mark.parametrize("draw", [random.random, np.random.rand, lambda: torch.rand([]), lambda: torch.rand(1).item()])
def test_layers_are_not_skipped_and_the_rate_of_skipping_is_seen(draw: Callable[[], float]) -> None:
    model = Skips(draw)
    trace = trace_sites(model, X)
    assert [(op.site, op.kind, op.rate) for op in trace.operations] == [
        ("layerdrop", "layer", 1.0),
        ("inner", "element", 0.1),
    ]
    assert model.layerdrop == 1.0


class Stateful(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(16)
        self.frozen = nn.Dropout(0.3).eval()
        self.dropout = 0  # an int
        self.register_buffer("count", torch.zeros(1))
        self.ours = layers.Dropout(0.0)
        self.fails = False

    def forward(self, x: Tensor) -> Tensor:
        self.count = self.count + 1
        x = F.dropout(self.ours(self.frozen(self.norm(x.mean(1)))), self.dropout, self.training)
        if self.fails:
            raise RuntimeError("no forward")
        return x


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_of_the_run_stays(fails: bool) -> None:
    model = Stateful().train()
    model.frozen.eval()
    model.fails = fails
    sites, modes = find_sites(model), [module.training for module in model.modules()]
    count = model.count
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    if fails:
        with pytest.raises(RuntimeError, match="no forward"):
            trace_sites(model, X)
    else:
        assert len(trace_sites(model, X).operations) == 3
    assert [module.training for module in model.modules()] == modes
    assert model.count is count
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()
    assert sites.rates() == sites.base_rates() == {"dropout": 0.0, "frozen": 0.3, "ours": 0.0}
    assert type(model.dropout) is int
    assert model.ours.dormant
    assert not model.frozen._forward_hooks


def test_a_compiled_model_is_traced_in_eager_and_compiles_nothing() -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    net = nn.Sequential(nn.Linear(16, 16), layers.Dropout(0.1), nn.Dropout(0.2))
    trace = trace_sites(torch.compile(net, backend="eager"), X)
    assert [(op.site, op.module) for op in trace.operations] == [("1", "1"), ("2", "2")]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 0


def test_sites_that_are_driven_can_be_traced() -> None:
    model = nn.Sequential(layers.Dropout(0.1), nn.Dropout(0.2))
    sites = find_sites(model)
    writer = SiteWriter(sites, model=model, owner="test")
    writer.set(0.4)
    assert [(op.site, op.rate) for op in trace_sites(model, X).operations] == [("0", 0.4), ("1", 0.4)]
    assert sites.rates() == {"0": 0.4, "1": 0.4}
    writer.release()
    assert sites.rates() == {"0": 0.1, "1": 0.2}


@pytest.mark.filterwarnings("ignore:.torch.jit")
def test_a_scripted_part_is_run_and_left_as_it_is() -> None:
    model = nn.Sequential(torch.jit.script(nn.Linear(4, 4)), nn.Dropout(0.1))
    trace = trace_sites(model, torch.ones(2, 4))
    assert "F.dropout" in str(trace)
    assert model.training
