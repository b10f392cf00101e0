from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_dropout.layers import DropPath, LockedDropout
from lightning_dropout.sites import intended_dropout, watch_dropout

X = torch.ones(2, 3, 4)


def packed_gru(p: float) -> object:
    gru = nn.GRU(4, 4, num_layers=2, dropout=p, batch_first=True)
    return gru(nn.utils.rnn.pack_padded_sequence(X, [3, 2], batch_first=True))


CALLS = {
    "F.dropout": lambda p: F.dropout(X, p),
    "F.dropout1d": lambda p: F.dropout1d(X, p=p),
    "F.dropout2d": lambda p: F.dropout2d(X[None], p),
    "F.dropout3d": lambda p: F.dropout3d(X[None, None], p),
    "F.alpha_dropout": lambda p: F.alpha_dropout(X, p, True),
    "F.feature_alpha_dropout": lambda p: F.feature_alpha_dropout(X, p, training=True),
    "torch.dropout": lambda p: torch.dropout(X, p, True),
    "torch.dropout_": lambda p: torch.dropout_(X.clone(), p, True),
    "torch.native_dropout": lambda p: torch.native_dropout(X, p, True),
    "aten.dropout": lambda p: torch.ops.aten.dropout(X, p, True),
    "F.scaled_dot_product_attention": lambda p: F.scaled_dot_product_attention(X, X, X, dropout_p=p),
    "F.multi_head_attention_forward": lambda p: nn.MultiheadAttention(4, 2, dropout=p)(X, X, X),
    "torch.lstm": lambda p: nn.LSTM(4, 4, num_layers=2, dropout=p)(X),
    "torch.rnn_tanh": lambda p: nn.RNN(4, 4, num_layers=2, dropout=p)(X),
    "torch.gru": packed_gru,
}


@pytest.mark.parametrize("call", CALLS)
def test_every_dropout_call_of_torch_is_seen_when_it_is_active(call: str) -> None:
    with watch_dropout(nn.Module()) as events:
        CALLS[call](0.25)
        CALLS[call](0.0)
    assert [(event.call, event.rate) for event in events] == [(call, 0.25)]


def test_calls_with_training_off_are_not_active() -> None:
    with watch_dropout(nn.Module()) as events:
        F.dropout(X, 0.5, training=False)
        F.alpha_dropout(X, 0.5)
        nn.Sequential(nn.Dropout(0.5), nn.MultiheadAttention(4, 2, dropout=0.5)).eval()[0](X)
        nn.LSTM(4, 4, num_layers=2, dropout=0.5).eval()(X)
    assert events == []


class Head(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.3)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.1))
        self.head = Head()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def test_events_name_the_innermost_module_and_the_line_outside_torch() -> None:
    net = Net()
    with watch_dropout(net) as events:
        net(X)
    assert [event.module for event in events] == ["body.1", "head"]
    assert all(Path(event.file) == Path(__file__) for event in events)
    lines = Path(__file__).read_text().splitlines()
    assert lines[events[1].line - 1].strip() == "return F.dropout(x, 0.3)"
    assert str(events[1]) == f"F.dropout with rate 0.3 in 'head' ({__file__}:{events[1].line})"


def test_compiled_models_are_seen_and_compile_no_graph_for_it() -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    net = Net()
    compiled = torch.compile(net, backend="eager")
    compiled(X)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert graphs > 0
    with watch_dropout(net) as events:
        compiled(X)
    compiled(X)
    assert [event.module for event in events] == ["body.1", "head"]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs


class HandMade(nn.Module):
    """Forgets to ask for the mode."""

    def __init__(self) -> None:
        super().__init__()
        self.drop_prob = 0.3

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.rand_like(x) > self.drop_prob)


@pytest.mark.parametrize(
    ("layer", "call", "fires_in_eval"),
    [
        (LockedDropout(0.3), "torch.rand", False),
        (DropPath(0.3), "torch.rand", False),
        (HandMade(), "torch.rand_like", True),
    ],
)
def test_layers_that_draw_their_mask_themselves_are_seen(layer: nn.Module, call: str, fires_in_eval: bool) -> None:
    model = nn.Sequential(nn.Linear(4, 4), layer)
    with watch_dropout(model) as events:
        model(X)
    assert [(event.call, event.rate, event.module) for event in events] == [(call, 0.3, "1")]
    model.eval()
    with watch_dropout(model) as events:
        model(X)
    assert bool(events) == fires_in_eval


def test_draws_elsewhere_are_not_for_dropout() -> None:
    class Noisy(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x + torch.randn_like(x))

    model = Noisy(nn.Linear(4, 4), nn.Dropout(0.5)).eval()
    with watch_dropout(model) as events:
        model(X)
    assert events == []


class Debugged(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.3, training=False)


def test_calls_that_a_module_in_train_mode_makes_with_training_off_are_seen_on_request() -> None:
    net = nn.Sequential(Debugged(), nn.Dropout(0.1).eval(), nn.Dropout(0.0))
    with watch_dropout(net, inactive=True) as events:
        net(X)
        with torch.no_grad():
            net(X)
    assert [(event.call, event.module, event.is_active) for event in events] == [("F.dropout", "0", False)]
    assert str(events[0]).startswith("F.dropout with rate 0.3 and training off in '0' (")


def test_intended_dropout_is_no_event() -> None:
    model = nn.Dropout(0.5)
    with watch_dropout(model) as events:
        with intended_dropout():
            model(X)
        model(X)
    assert len(events) == 1
