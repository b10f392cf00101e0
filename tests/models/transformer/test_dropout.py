import pytest
import torch

from lightning_dropout.models import EncoderConfig, Transformer, TransformerDropout
from lightning_dropout.sites import find_sites

TINY = {"num_layers": 2, "num_heads": 4, "dim": 16, "context_length": 12}
NONE = TransformerDropout(emb=0.0, attn=0.0, attn_sublayer=0.0, ff_sublayer=0.0)
ROOT = ["emb", "token", "cross_attn_tokens"]
BLOCK = ["attn", "attn_head", "attn_sublayer", "cross_attn", "cross_attn_head", "cross_attn_sublayer"]
BLOCK += ["ff", "ff_sublayer", "path", "layer"]


def test_sites_have_the_names_of_the_field():
    names = {site.name for site in find_sites(Transformer(11, **TINY, context_dim=8))}
    assert names == {*ROOT, *(f"blocks.{depth}.{site}" for depth in range(2) for site in BLOCK)}


@pytest.mark.parametrize("site", ROOT + BLOCK)
def test_every_site_changes_the_output_in_training_only(site):
    network = Transformer(11, **TINY, context_dim=8, dropout=NONE)
    ids, context = torch.randint(11, (2, 12)), torch.randn(2, 5, 8)
    expected = network(ids, context=context)
    find_sites(network).match(site if site in ROOT else f"blocks.*.{site}").set(0.7)
    torch.manual_seed(0)
    outputs = torch.stack([network(ids, context=context) for _ in range(8)])
    assert not torch.allclose(outputs, expected.expand_as(outputs), atol=1e-4)
    assert torch.equal(network.eval()(ids, context=context), expected)


def test_skipping_every_layer_leaves_the_embedding():
    network = Transformer(11, **TINY, tie_weights=True, dropout=TransformerDropout(emb=0.0, layer=1.0))
    ids = torch.randint(11, (2, 12))
    embedded = network.norm(network.embedding(ids))
    assert torch.equal(network(ids), embedded @ network.embedding.weight.T)


def test_token_dropout_of_a_decoder_hides_keys_but_not_the_first():
    dropout = TransformerDropout(emb=0.0, token=1.0, attn=0.0, attn_sublayer=0.0, ff_sublayer=0.0)
    network = Transformer(11, **TINY, dropout=dropout)
    ids = torch.randint(11, (1, 12))
    changed = ids.clone()
    changed[:, 1:11] = (ids[:, 1:11] + 1) % 11
    assert torch.allclose(network(ids)[:, 11], network(changed)[:, 11])
    changed = ids.clone()
    changed[:, 0] = (ids[:, 0] + 1) % 11
    assert not torch.allclose(network(ids)[:, 11], network(changed)[:, 11])


@pytest.mark.parametrize("pooling", ["class", "mean"])
def test_token_dropout_of_an_encoder_shortens_the_sequence(pooling):
    encoder = EncoderConfig(num_classes=3, pooling=pooling)
    network = Transformer(11, **TINY, position="learned", encoder=encoder, dropout=TransformerDropout(token=0.5))
    lengths = []
    network.blocks[0].register_forward_hook(lambda module, args, output: lengths.append(output.shape[1]))
    network(torch.randint(11, (2, 12)))
    network.eval()(torch.randint(11, (2, 12)))
    assert lengths == ([7, 13] if pooling == "class" else [6, 12])


def test_attn_on_context_changes_the_kind():
    network = Transformer(11, **TINY, dropout=TransformerDropout(attn_on="context"))
    assert {site.kind for site in find_sites(network).match("blocks.*.attn")} == {"context"}


@pytest.mark.parametrize(
    ("profile", "rates"), [("linear", [0.1, 0.2]), ("uniform", [0.2, 0.2]), ("exponential", [0.2 * 0.1**0.5, 0.2])]
)
def test_path_rates_follow_the_depth_profile(profile, rates):
    network = Transformer(11, **TINY, dropout=TransformerDropout(path=0.2, path_profile=profile))
    assert [block.path.rate for block in network.blocks] == pytest.approx(rates)


@pytest.mark.parametrize("form", [{}, {"context_dim": 8}, {"encoder": EncoderConfig(num_classes=3)}])
def test_a_schedule_on_the_compiled_network_compiles_one_training_and_one_eval_graph(form):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    network = Transformer(11, **{**TINY, "num_layers": 1}, **form)
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    ids = torch.randint(11, (2, 12))
    inputs = {"context": torch.randn(2, 5, 8)} if "context_dim" in form else {}
    sites = find_sites(network)
    for mode in (True, False):
        network.train(mode)
        for step in range(1, 10):
            sites.set(step / 9)
            compiled(ids, **inputs).sum().backward()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"emb": 1.5}, r"TransformerDropout\(emb\) is 1\.5\. Give the probability of dropping"),
        ({"path": float("nan")}, r"TransformerDropout\(path\) is nan"),
        ({"attn_on": "scores"}, r"TransformerDropout\(attn_on='scores'\) is unknown. Give one of 'weights', 'context'"),
    ],
)
def test_wrong_values_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        TransformerDropout(**wrong)
