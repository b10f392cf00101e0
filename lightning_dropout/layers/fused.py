"""Attention in torch's fused kernels, with a dropout rate that compiled code can follow.

``F.scaled_dot_product_attention`` takes the rate as a float, which ``torch.compile`` writes into the graph. The
operator here takes a 0-d tensor on the CPU and reads it when it runs: no guard, no synchronisation with the device.
Its backward pass runs the attention again with the same random numbers, so the attention matrix is never kept, nor
ever in memory where a fused kernel takes the call.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._C import DispatchKey, _SetExcludeDispatchKeyGuard

__all__ = ["fused_attention"]

_TAGS = (torch.Tag.nondeterministic_seeded, torch.Tag.cudagraph_unsafe)


def fused_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rate: Tensor,
    *,
    mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Scaled dot-product attention with dropout on the weights; ``rate`` is a 0-d tensor on the CPU.

    Queries are ``(batch, heads, length, dim)``; keys and values may have fewer heads, each shared by a group of query
    heads. ``mask`` is boolean, True where a query may look, or is added to the scores; it gets no gradient.
    """
    out, _ = _forward(q, k, v, mask, rate, is_causal, scale)
    attended: Tensor = out.transpose(1, 2)
    return attended


def _attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, rate: Tensor, is_causal: bool, scale: float | None
) -> Tensor:
    """Attend and return ``(batch, length, heads, dim)``, which is how the fused kernels write their output."""
    out = F.scaled_dot_product_attention(
        q, k, v, mask, rate.item(), is_causal, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
    )
    return out.transpose(1, 2).contiguous()


@torch.library.custom_op("lightning_dropout::attention", mutates_args=(), tags=_TAGS)
def _forward(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, rate: Tensor, is_causal: bool, scale: float | None
) -> tuple[Tensor, Tensor]:
    state = _random_state(q.device)
    return _attend(q, k, v, mask, rate, is_causal, scale), state


@_forward.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, rate: Tensor, is_causal: bool, scale: float | None
) -> tuple[Tensor, Tensor]:
    out = q.new_empty((q.shape[0], q.shape[2], q.shape[1], v.shape[3]))
    num_bytes = 16 if q.device.type == "cuda" else len(torch.get_rng_state())
    return out, torch.empty(num_bytes, dtype=torch.uint8, device="cpu")


@torch.library.custom_op("lightning_dropout::attention_backward", mutates_args=(), tags=_TAGS)
def _backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    rate: Tensor,
    state: Tensor,
    is_causal: bool,
    scale: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    now = _random_state(q.device)
    _set_random_state(state, q.device)
    # An operator runs below autograd; its own backward pass needs autograd back.
    with torch.enable_grad(), _SetExcludeDispatchKeyGuard(DispatchKey.AutogradFunctionality, False):
        q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
        grads = torch.autograd.grad(_attend(q, k, v, mask, rate, is_causal, scale), (q, k, v), grad)
    _set_random_state(now, q.device)
    dq, dk, dv = (x.contiguous() for x in grads)
    return dq, dk, dv


@_backward.register_fake
def _(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    rate: Tensor,
    state: Tensor,
    is_causal: bool,
    scale: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, mask, rate, ctx.is_causal, ctx.scale = inputs
    ctx.save_for_backward(q, k, v, mask, rate, output[1])


def _autograd(ctx: Any, grad: Tensor, _: None) -> tuple[Tensor | None, ...]:
    q, k, v, mask, rate, state = ctx.saved_tensors
    dq, dk, dv = _backward(grad, q, k, v, mask, rate, state, ctx.is_causal, ctx.scale)
    return dq, dk, dv, None, None, None, None


_forward.register_autograd(_autograd, setup_context=_setup_context)


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(state: Tensor, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
