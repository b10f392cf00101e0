import pytest
import torch

from lightning_dropout.models import Transformer, TransformerDropout

TINY = {"num_layers": 2, "num_heads": 2, "dim": 16, "context_length": 12}
LLAMA = {}
GPT2 = {"position": "learned", "norm": "layer", "activation": "gelu", "bias": True, "tie_weights": False}
NONE = TransformerDropout(emb=0.0, attn=0.0, attn_sublayer=0.0, ff_sublayer=0.0)


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
    network = Transformer(65, num_layers=4, num_heads=4, dim=128, context_length=64)
    assert sum(parameter.numel() for parameter in network.parameters()) == 800_000


def test_loss_before_training_is_that_of_a_uniform_guess():
    network = Transformer(65, num_layers=6, num_heads=4, dim=128, context_length=64).eval()
    ids = torch.randint(65, (4, 64))
    loss = torch.nn.functional.cross_entropy(network(ids).flatten(0, 1), torch.randint(65, (256,)))
    assert abs(loss.item() - torch.tensor(65.0).log().item()) < 0.1


@pytest.mark.parametrize("site", ["emb", "attn", "attn_sublayer", "ff", "ff_sublayer", "layer"])
def test_every_site_has_its_name_and_changes_the_output_in_training_only(site):
    network = Transformer(11, **TINY, dropout=NONE)
    ids = torch.randint(11, (2, 12))
    expected = network(ids)
    layers = [layer for name, layer in network.named_modules() if name.rpartition(".")[2] == site]
    assert len(layers) == (1 if site == "emb" else 2)
    for layer in layers:
        layer.rate = 0.7
    torch.manual_seed(0)
    assert not torch.allclose(torch.stack([network(ids) for _ in range(3)]).mean(0), expected)
    assert torch.equal(network.eval()(ids), expected)


def test_skipping_every_layer_leaves_the_embedding():
    network = Transformer(11, **TINY, dropout=TransformerDropout(emb=0.0, layer=1.0))
    ids = torch.randint(11, (2, 12))
    embedded = network.norm(network.embedding(ids))
    assert torch.equal(network(ids), embedded @ network.embedding.weight.T)


def test_attn_on_context_changes_the_kind():
    network = Transformer(11, **TINY, dropout=TransformerDropout(attn_on="context"))
    assert [block.attn.kind for block in network.blocks] == ["context", "context"]


def test_a_schedule_on_the_compiled_network_compiles_one_training_and_one_eval_graph():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    rates = {"emb": 0.1, "attn": 0.1, "attn_sublayer": 0.1, "ff": 0.1, "ff_sublayer": 0.1, "layer": 0.1}
    network = Transformer(11, **TINY, dropout=TransformerDropout(**rates))
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    ids = torch.randint(11, (2, 12))
    sites = [layer for name, layer in network.named_modules() if name.rpartition(".")[2] in rates]
    for mode in (True, False):
        network.train(mode)
        for step in range(10):
            for site in sites:
                site.rate = step / 9
            compiled(ids).sum().backward()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2


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


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_heads": 3}, r"Transformer\(dim=16, num_heads=3\): heads must divide the width"),
        ({"num_heads": 4, "num_kv_heads": 3}, r"num_heads=4, num_kv_heads=3"),
        ({"num_heads": 16}, r"position='rotary', dim=16, num_heads=16.*even"),
        ({"num_layers": 0}, r"num_layers=0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Transformer(11, **{**TINY, **wrong})


def test_too_many_tokens_are_refused():
    with pytest.raises(ValueError, match="13 tokens, more than its context_length of 12"):
        Transformer(11, **TINY)(torch.zeros(1, 13, dtype=torch.long))


def test_a_rate_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"Dropout rate is 1\.5"):
        Transformer(11, **TINY, dropout=TransformerDropout(emb=1.5))
