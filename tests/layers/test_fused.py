from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_dropout.layers.attention import AttentionDropout
from lightning_dropout.layers.fused import fused_attention

CASES = [
    {"is_causal": True},
    {"is_causal": True, "num_kv_heads": 2},
    {"mask": torch.ones(5, 7, dtype=torch.bool).tril(2)},
    {"mask": torch.linspace(-1, 1, 35).view(5, 7), "scale": 0.3},
]
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]),
]


def inputs(
    device: str, *, num_kv_heads: int = 4, length: int = 5, dtype: torch.dtype = torch.float32, **options: Any
) -> tuple[list[Tensor], dict[str, Any]]:
    torch.manual_seed(0)
    num_keys = length if options.get("is_causal") else 7
    shapes = [(2, 4, length, 8), (2, num_kv_heads, num_keys, 8), (2, num_kv_heads, num_keys, 8)]
    qkv = [torch.randn(shape, device=device, dtype=dtype, requires_grad=True) for shape in shapes]
    return qkv, {key: value.to(device) if isinstance(value, Tensor) else value for key, value in options.items()}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_same_output_and_gradients_as_torch_on_the_same_mask(device: str, case: dict[str, Any], rate: float) -> None:
    qkv, options = inputs(device, **case)
    names = {"mask": "attn_mask"}
    reference = {names.get(name, name): value for name, value in options.items()}

    def run(attend: Any) -> tuple[Tensor, ...]:
        torch.manual_seed(1)
        out = attend()
        return out, *torch.autograd.grad(out.square().sum(), qkv), torch.rand(1, device=device)

    ours = run(lambda: fused_attention(*qkv, torch.tensor(rate), **options))
    gqa = qkv[0].shape[1] != qkv[1].shape[1]
    theirs = run(lambda: F.scaled_dot_product_attention(*qkv, dropout_p=rate, enable_gqa=gqa, **reference))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_a_new_rate_is_no_new_graph() -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    (q, k, v), _ = inputs("cpu")
    rate = torch.tensor(0.0)
    compiled = torch.compile(lambda: fused_attention(q, k, v, rate), fullgraph=True, backend="aot_eager")
    expected = F.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(compiled(), expected)
    for _ in range(10):
        rate.add_(0.09)
        torch.manual_seed(2)
        output = compiled()
        torch.manual_seed(2)
        torch.testing.assert_close(output, F.scaled_dot_product_attention(q, k, v, dropout_p=rate.item()))
        output.sum().backward()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_the_operator_is_registered_as_torch_asks() -> None:
    (q, k, v), _ = inputs("cpu")
    torch.library.opcheck(
        torch.ops.lightning_dropout.attention,
        (q, k, v, None, torch.tensor(0.3), True, None),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("compiled", [False, True])
def test_training_on_cuda_never_holds_the_attention_matrix(compiled: bool) -> None:
    length = 4096
    (q, k, v), _ = inputs("cuda", length=length, is_causal=True, dtype=torch.bfloat16)
    layer = AttentionDropout(0.1).cuda()
    layer = torch.compile(layer) if compiled else layer
    layer(q, k, v, is_causal=True).sum().backward()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    layer(q, k, v, is_causal=True).sum().backward()
    matrix = q.shape[0] * q.shape[1] * length**2 * q.element_size()
    assert torch.cuda.max_memory_allocated() - before < matrix / 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_the_realised_drop_fraction_is_right_on_cuda(rate: float) -> None:
    # With one-hot values, the output is the row of dropped weights itself.
    length = 64
    q = k = torch.zeros(64, 4, length, 64, device="cuda", dtype=torch.bfloat16)
    v = torch.eye(length, device="cuda", dtype=torch.bfloat16).expand(64, 4, length, length)
    weights = fused_attention(q, k, v, torch.tensor(rate))
    assert (weights == 0).float().mean().item() == pytest.approx(rate, abs=0.005)
