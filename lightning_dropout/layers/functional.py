"""Dropout as functions of a 0-d tensor rate: what compiled code runs in place of torch's kernels.

Torch's own functions take the rate as a Python float, which ``torch.compile`` writes into the graph: a new rate is a
new graph. These take it as an input. They draw from the same distributions, with other random numbers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_dropout.layers.fused import fused_attention
from lightning_dropout.layers.mask import drop, keep_mask

__all__ = ["alpha_dropout", "attention", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout"]

# -scale * alpha of SELU: the value a unit saturates to (Klambauer et al. 2017).
_SATURATION = 1.7580993408473766


def dropout(x: Tensor, rate: Tensor) -> Tensor:
    """Drop single elements of ``x``, of any shape."""
    return drop(x, rate, x.shape)


def dropout1d(x: Tensor, rate: Tensor) -> Tensor:
    """Drop whole channels of ``(batch, channels, length)``, or of ``(channels, length)``."""
    return _channel_dropout(x, rate, num_spatial=1)


def dropout2d(x: Tensor, rate: Tensor) -> Tensor:
    """Drop whole channels of ``(batch, channels, height, width)``; as in torch, 3-D input is ``dropout1d``'s."""
    return _channel_dropout(x, rate, num_spatial=1 if x.dim() == 3 else 2)


def dropout3d(x: Tensor, rate: Tensor) -> Tensor:
    """Drop whole channels of ``(batch, channels, depth, height, width)``, or of one sample."""
    return _channel_dropout(x, rate, num_spatial=3)


def _channel_dropout(x: Tensor, rate: Tensor, *, num_spatial: int) -> Tensor:
    num_leading = max(x.dim() - num_spatial, 1)
    return drop(x, rate, (*x.shape[:num_leading], *(1,) * (x.dim() - num_leading)))


def alpha_dropout(x: Tensor, rate: Tensor) -> Tensor:
    """Set elements to SELU's saturation value, then restore mean and variance by an affine map."""
    return _alpha_dropout(x, rate, tuple(x.shape))


def feature_alpha_dropout(x: Tensor, rate: Tensor) -> Tensor:
    """Alpha dropout of whole channels of ``(batch, channels, ...)``."""
    return _alpha_dropout(x, rate, (*x.shape[:2], *(1,) * (x.dim() - 2)))


def _alpha_dropout(x: Tensor, rate: Tensor, shape: tuple[int, ...]) -> Tensor:
    a = ((_SATURATION**2 * rate + 1.0) * (1.0 - rate)).rsqrt()
    a = torch.where(rate < 1.0, a, 0.0)
    kept = torch.where(keep_mask(shape, rate, x.device), x, -_SATURATION)
    return torch.where(rate < 1.0, a * (kept + _SATURATION * rate), 0.0).to(x.dtype)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rate: Tensor,
    host_rate: Tensor,
    *,
    mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Scaled dot-product attention with dropout on the weights, after the softmax.

    On CUDA torch's fused kernels run, elsewhere plain operations that the compiler fuses. ``host_rate`` is ``rate``
    on the CPU. Queries are ``(..., heads, length, dim)``; keys and values may have fewer heads, each shared by a group
    of query heads. ``mask`` is boolean, True where a query may look, or is added to the scores; it broadcasts to
    ``(..., heads, length, keys)``.
    """
    if q.is_cuda and q.dim() == 4 and not (mask is not None and mask.requires_grad):
        return fused_attention(q, k, v, host_rate, mask=mask, is_causal=is_causal, scale=scale)
    if q.dim() > 3 and q.shape[-3] != k.shape[-3]:
        k, v = (x.repeat_interleave(q.shape[-3] // x.shape[-3], dim=-3) for x in (k, v))
    # Half of the scale on either side, as torch does it: safer against overflow in half precision.
    half = math.sqrt(q.shape[-1] ** -0.5 if scale is None else scale)
    scores = (q * half) @ (k * half).transpose(-2, -1)
    if is_causal:
        queries, keys = (torch.arange(length, device=q.device) for length in scores.shape[-2:])
        scores = scores + _bias((queries[:, None] - keys + 1).clamp(0, 1))
    if mask is not None:
        scores = scores + (_bias(mask) if mask.dtype == torch.bool else mask)
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(v.dtype)
    return drop(weights, rate, weights.shape) @ v


def _bias(visible: Tensor) -> Tensor:
    """0 where ``visible`` is 1 or True, else minus infinity.

    To be added, and without a boolean on the way: inductor has no vector instructions for those on the CPU, and the
    backward pass of an addition needs no mask.
    """
    return visible.float().log()
