import copy
import pickle

import pytest
import torch
from jsonargparse import auto_cli

from lightning_dropout.models import Transformer, TransformerDropout

TINY = {"num_layers": 2, "num_heads": 2, "dim": 16, "context_length": 12}
LLAMA = {}
GPT2 = {"position": "learned", "norm": "layer", "activation": "gelu", "bias": True, "tie_weights": False}


@pytest.mark.parametrize("form", [LLAMA, GPT2, {"num_kv_heads": 1}])
def test_no_position_sees_what_comes_after_it(form):
    network = Transformer(11, **TINY, **form).eval()
    ids = torch.randint(11, (3, 12))
    changed = ids.clone()
    changed[:, 6:] = (ids[:, 6:] + 1) % 11
    before, after = network(ids), network(changed)
    assert torch.equal(before[:, :6], after[:, :6])
    assert not torch.allclose(before[:, 6:], after[:, 6:])


@pytest.mark.parametrize("form", [LLAMA, GPT2])
def test_order_matters(form):
    network = Transformer(11, **TINY, **form).eval()
    assert not torch.allclose(network(torch.tensor([[1, 2, 3]]))[:, -1], network(torch.tensor([[2, 1, 3]]))[:, -1])


def test_char_model_in_llama_form_has_800_000_parameters():
    network = Transformer(65, num_layers=4, num_heads=4, dim=128, context_length=64, tie_weights=True)
    assert sum(parameter.numel() for parameter in network.parameters()) == 800_000


def test_loss_before_training_is_that_of_a_uniform_guess():
    network = Transformer(65, num_layers=6, num_heads=4, dim=128, context_length=64).eval()
    ids = torch.randint(65, (4, 64))
    loss = torch.nn.functional.cross_entropy(network(ids).flatten(0, 1), torch.randint(65, (256,)))
    assert abs(loss.item() - torch.tensor(65.0).log().item()) < 0.5


def test_compiled_and_eager_agree_without_dropout():
    torch._dynamo.reset()
    network = Transformer(11, **TINY, num_kv_heads=1).eval()
    ids = torch.randint(11, (2, 12))
    assert torch.allclose(torch.compile(network, fullgraph=True)(ids), network(ids), atol=1e-5)


def test_rotary_table_survives_bfloat16_and_to_empty():
    network = Transformer(11, **TINY)
    table = network.rotary.table.clone()
    assert torch.equal(network.bfloat16().rotary.table, table)
    with torch.device("meta"):
        empty = Transformer(11, **TINY)
    assert torch.equal(empty.to_empty(device="cpu").rotary.table, table)
    assert "rotary.table" not in network.state_dict()


def test_every_module_with_weights_can_draw_them_again_after_to_empty():
    with torch.device("meta"):
        network = Transformer(11, **TINY, position="learned", norm="layer", bias=True, context_dim=8)
    network.to_empty(device="cpu")
    for module in network.modules():
        if list(module.parameters(recurse=False)):
            module.reset_parameters()
    logits = network.eval()(torch.randint(11, (2, 12)), context=torch.randn(2, 3, 8))
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("again", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])
def test_copies_compute_the_same(again):
    network = Transformer(11, **TINY, position="sinusoidal", activation="gelu_tanh").eval()
    ids = torch.randint(11, (2, 12))
    assert torch.equal(again(network)(ids), network(ids))


def test_too_many_tokens_are_refused():
    with pytest.raises(ValueError, match="13 tokens, more than its context_length of 12"):
        Transformer(11, **TINY)(torch.zeros(1, 13, dtype=torch.long))


def the_network(network: Transformer):
    return network


def test_options_are_built_from_nested_keys(tmp_path):
    (tmp_path / "network.yaml").write_text("""
network:
  class_path: lightning_dropout.models.Transformer
  init_args:
    vocab_size: 11
    num_layers: 2
    num_heads: 2
    dim: 16
    context_length: 12
    dropout: {ff: 0.3, attn_on: context}
    rotary: {base: 500.0}
    encoder: {num_classes: 3, pooling: mean}
""")
    network = auto_cli(
        the_network, args=[f"--config={tmp_path / 'network.yaml'}", "--network.dim=32"], as_positional=False
    )
    assert network.config.dim == 32
    assert network.config.dropout == TransformerDropout(ff=0.3, attn_on="context")
    assert network.config.rotary.base == 500.0
    assert network(torch.zeros(2, 12, dtype=torch.long)).shape == (2, 3)
