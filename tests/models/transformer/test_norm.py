from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from lightning_dropout.models.transformer.norm import RMSNorm


def both(dtype: torch.dtype) -> tuple[RMSNorm, nn.RMSNorm]:
    ours, torchs = RMSNorm(8, eps=1e-3), nn.RMSNorm(8, eps=1e-3)
    nn.init.normal_(ours.weight)
    torchs.load_state_dict(ours.state_dict())
    return ours.to(dtype), torchs.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_outputs_and_gradients_are_those_of_torch(dtype: torch.dtype) -> None:
    inputs = torch.randn(3, 5, 8, dtype=dtype)
    inputs[0, 0] = 0.0
    inputs[0, 1] *= 1e-3
    outputs = []
    for norm in both(dtype):
        x = inputs.clone().requires_grad_()
        y = norm(x)
        y.square().sum().backward()
        outputs.append((y, x.grad, norm.weight.grad))
    torch.testing.assert_close(outputs[0], outputs[1])
    assert torch.isfinite(outputs[0][1]).all()


def test_without_gradients_it_computes_the_same_bits_and_leaves_its_input() -> None:
    ours, _ = both(torch.float32)
    x = torch.randn(3, 5, 8)
    expected, kept = ours(x), x.clone()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert ours(x).equal(expected)
    assert x.equal(kept)


def test_compiled_copied_and_built_without_memory_it_computes_the_same() -> None:
    ours, torchs = both(torch.float32)
    x = torch.randn(2, 8)
    torch.testing.assert_close(torch.compile(ours, backend="eager", fullgraph=True)(x), torchs(x))
    torch.testing.assert_close(copy.deepcopy(ours)(x), torchs(x))
    with torch.device("meta"):
        empty = RMSNorm(8, eps=1e-3)
    empty.to_empty(device="cpu").load_state_dict(torchs.state_dict())
    torch.testing.assert_close(empty(x), torchs(x))


def test_a_shape_that_does_not_fit_is_refused_and_a_new_epsilon_counts() -> None:
    ours, torchs = both(torch.float32)
    with pytest.raises(RuntimeError, match=r"\[\*, ?8\]|8"):
        ours(torch.randn(4, 1))
    ours.eps = torchs.eps = 1.0
    x = torch.randn(2, 8)
    torch.testing.assert_close(ours(x), torchs(x))
