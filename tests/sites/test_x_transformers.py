from __future__ import annotations

from typing import Any

import pytest
import torch

from lightning_dropout.sites import find_sites, trace_sites, watch_dropout

x_transformers = pytest.importorskip("x_transformers")
IDS = torch.randint(0, 32, (2, 8))


def decoder(**kwargs: Any) -> Any:
    layers = x_transformers.Decoder(dim=16, depth=2, heads=2, **kwargs)
    return x_transformers.TransformerWrapper(num_tokens=32, max_seq_len=8, emb_dropout=0.1, attn_layers=layers)


@pytest.mark.parametrize("flash", [True, False])
def test_every_dropout_of_a_decoder_is_reached(flash: bool) -> None:
    model = decoder(
        attn_dropout=0.1,
        ff_dropout=0.1,
        layer_dropout=0.2,
        attn_sublayer_dropout=0.1,
        ff_sublayer_dropout=0.1,
        attn_flash=flash,
    )
    sites = find_sites(model)
    before = sites.rates()
    trace = trace_sites(model, IDS)
    assert trace.unreachable == ()
    assert trace.silent == ("attn_layers.cross_attn_tokens_dropout",)
    assert [op.position for op in trace.operations if op.kind == "attention"] == ["weights", "weights"]
    assert sum(op.kind == "layer" for op in trace.operations) == 4
    assert sites.rates() == before

    sites.set(0.0)
    state = torch.get_rng_state()
    assert torch.equal(model(IDS), model(IDS))
    assert torch.equal(torch.get_rng_state(), state)

    sites.set(0.3)
    sites.of_kind("layer").set(0.0)
    with watch_dropout(model) as events:
        model(IDS)
    assert len(events) == 9
    assert {event.rate for event in events} == {0.3}


def test_dropped_context_tokens_are_seen() -> None:
    model = x_transformers.XTransformer(
        dim=16,
        **{f"{part}_{what}": n for part in ("enc", "dec") for what, n in [("num_tokens", 32), ("depth", 1)]},
        **{f"{part}_{what}": n for part in ("enc", "dec") for what, n in [("heads", 2), ("max_seq_len", 8)]},
        cross_attn_tokens_dropout=0.2,
    )
    (operation,) = trace_sites(model, IDS, IDS).of_site("cross_attn_tokens_dropout")
    assert (operation.kind, operation.rate, operation.call) == ("token", 0.2, "torch.randn")
