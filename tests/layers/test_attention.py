import pytest
import torch
import torch.nn.functional as F

from lightning_dropout.layers.attention import AttentionDropout, ContextDropout


def heads(num_heads=4, length=6, dim=8, batch=2):
    return torch.randn(batch, num_heads, length, dim)


@pytest.mark.parametrize("layer_class", [AttentionDropout, ContextDropout])
def test_eval_and_rate_0_are_plain_attention_bit_for_bit(layer_class):
    q, k, v = heads(), heads(), heads()
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert torch.equal(layer_class(0.9).eval()(q, k, v, is_causal=True), expected)
    assert torch.equal(layer_class(0.0)(q, k, v, is_causal=True), expected)


@pytest.mark.parametrize("layer_class", [AttentionDropout, ContextDropout])
def test_rate_1_gives_zeros_with_finite_gradients(layer_class):
    q = heads().requires_grad_()
    output = layer_class(1.0)(q, heads(), heads())
    output.sum().backward()
    assert torch.equal(output, torch.zeros_like(output))
    assert torch.isfinite(q.grad).all()


def test_attention_dropout_equals_torch_on_the_same_seed():
    q, k, v = heads(), heads(), heads()
    torch.manual_seed(0)
    output = AttentionDropout(0.3)(q, k, v)
    torch.manual_seed(0)
    assert torch.equal(output, F.scaled_dot_product_attention(q, k, v, dropout_p=0.3))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("rate", [0.1, 0.6])
def test_weights_are_dropped_at_the_rate_and_keep_their_mean(compiled, rate):
    torch._dynamo.reset()
    torch.manual_seed(0)
    layer = AttentionDropout(rate)
    attend = torch.compile(layer, fullgraph=True) if compiled else layer
    length, dim = 256, 256
    q = k = torch.zeros(4, 4, length, dim)
    weights = attend(q, k, torch.eye(length).expand_as(k)) * length
    num_draws = weights.numel()
    dropped = (weights == 0).float().mean().item()
    assert abs(dropped - rate) < 5 * (rate * (1 - rate) / num_draws) ** 0.5
    kept = weights[weights != 0]
    assert torch.allclose(kept, torch.full_like(kept, 1 / (1 - rate)), rtol=1e-4)


@pytest.mark.parametrize("num_kv_heads", [4, 2])
@pytest.mark.parametrize("masking", ["none", "causal", "mask"])
def test_compiled_path_at_rate_0_agrees_with_the_fused_kernel(num_kv_heads, masking):
    torch._dynamo.reset()
    q, k, v = heads(), heads(num_kv_heads), heads(num_kv_heads)
    options = {
        "none": {},
        "causal": {"is_causal": True},
        "mask": {"mask": torch.tensor([True, False, True, True, True, False]).expand(2, 1, 6, 6)},
    }[masking]
    layer = AttentionDropout(0.5)
    expected = layer.eval()(q, k, v, **options)
    layer.train().rate = 0.0
    assert torch.allclose(torch.compile(layer, fullgraph=True)(q, k, v, **options), expected, atol=1e-6)


@pytest.mark.parametrize("layer_class", [AttentionDropout, ContextDropout])
def test_a_rate_that_changes_every_step_compiles_one_graph(layer_class):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    layer = layer_class(0.5)
    compiled = torch.compile(layer, fullgraph=True)
    for step in range(10):
        layer.rate = step / 9
        output = compiled(heads(), heads(), heads(), is_causal=True)
    assert torch.equal(output, torch.zeros_like(output))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_context_dropout_leaves_the_weights_whole():
    torch.manual_seed(0)
    context = ContextDropout(0.5)(torch.zeros(8, 4, 64, 16), torch.zeros(8, 4, 64, 16), torch.ones(8, 4, 64, 16))
    assert set(context.unique().tolist()) == {0.0, 2.0}
