"""Models that this package never saw: every architecture is run with every attention that it has."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from lightning_dropout.sites import find_sites, trace_sites, watch_dropout

EAGER = ["albert", "bloom", "mpnet", "wavlm", "xlnet"]
BOTH = [
    *("bart", "bert", "biogpt", "data2vec-audio", "distilbert", "electra", "falcon", "gpt2", "gpt_bigcode", "gpt_neox"),
    *("llama", "marian", "mistral", "opt", "pegasus", "persimmon", "qwen2", "roberta", "t5", "umt5", "vit", "wav2vec2"),
    "whisper",
]
CASES = [(name, "eager") for name in EAGER + BOTH] + [(name, "sdpa") for name in BOTH]
# Layers and floats that the architecture has and its forward does not use, with these attention functions. Falcon
# drops no attention weights at all.
DEAD = {
    "albert": ["encoder.albert_layer_groups.0.albert_layers.0.dropout"],
    "falcon": ["h.0.config.attention_dropout", *(f"h.{i}.self_attention.attention_dropout" for i in range(2))],
    "persimmon": [f"layers.{i}.self_attn.attention_dropout" for i in range(2)],
    "xlnet": [f"layer.{i}.dropout" for i in range(2)],
}

Build = Callable[..., tuple[nn.Module, dict[str, Tensor]]]


def run(model: nn.Module, inputs: dict[str, Tensor]) -> list[Tensor]:
    with torch.no_grad():
        return [leaf for leaf in tree_leaves(tuple(model(**inputs).values())) if isinstance(leaf, Tensor)]


@pytest.mark.parametrize(("name", "attention"), CASES)
def test_every_dropout_is_reached(hugging_face: Build, name: str, attention: str) -> None:
    torch.manual_seed(0)
    model, inputs = hugging_face(name, attention=attention)
    sites = find_sites(model)
    before = sites.rates()

    trace = trace_sites(model, **inputs)
    assert trace.unreachable == ()
    assert trace.draws == ()
    assert list(trace.silent) == DEAD.get(name, [])
    assert {op.position for op in trace.operations if op.kind == "attention"} <= {"weights", None}
    assert name == "falcon" or any(op.position == "weights" for op in trace.operations)
    assert sites.rates() == before

    sites.set(0.0)
    state = torch.get_rng_state()
    first, second = run(model, inputs), run(model, inputs)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(map(torch.equal, first, second))

    sites.set(0.3)
    sites.of_kind("layer").set(0.0)
    with watch_dropout(model) as events:
        run(model, inputs)
    assert events
    assert {event.rate for event in events} == {0.3}
