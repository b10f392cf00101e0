"""Measure what a dropout call really drops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_dropout.sites.calls import DropoutCall

__all__ = ["dropped_by_call", "dropped_by_draw"]


def dropped_by_call(
    func: Callable[..., Any], call: DropoutCall, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> float | None:
    """The fraction of entries that ``func(*args, **kwargs)`` is about to drop; None for an RNN, which does not tell.

    The call is made on ones with the random state that the real one will find, so the mask is the same. Of attention
    the fraction is of the weights, each counted as much as it weighs.
    """
    if func is F.scaled_dot_product_attention:
        return _dropped_by_attention(
            func, call, _with(args, kwargs, 2, "value", torch.ones_like), lambda output: output
        )
    if func is F.multi_head_attention_forward:
        arguments = _with(args, kwargs, 15, "need_weights", lambda _: True)
        return _dropped_by_attention(func, call, arguments, lambda output: output[1].sum(dim=-1))
    if call.drops != "input":
        return None
    arguments = _with(args, kwargs, 0, "input", torch.ones_like)
    with _same_randomness(*arguments), torch.no_grad():
        output = func(*arguments[0], **arguments[1])
    output = output[0] if isinstance(output, tuple) else output
    # Alpha dropout sets a dropped one to a negative number.
    return float((output <= 0.0).double().mean())


def _dropped_by_attention(
    func: Callable[..., Any],
    call: DropoutCall,
    arguments: tuple[list[Any], dict[str, Any]],
    total_weight: Callable[[Any], Tensor],
) -> float | None:
    args, kwargs = arguments
    with _same_randomness(args, kwargs), torch.no_grad():
        kept = total_weight(func(*args, **kwargs)).double().nan_to_num()
    args, kwargs = _with(args, kwargs, call.rate.index, call.rate.name, lambda rate: 0.0)
    with torch.no_grad():
        whole = total_weight(func(*args, **kwargs)).double().nan_to_num()
    rate = float(call.rate.read(*arguments))
    return float(1.0 - (1.0 - rate) * kept.mean() / whole.mean()) if whole.any() else None


def _with(
    args: Sequence[Any], kwargs: Mapping[str, Any], index: int, name: str, change: Callable[[Any], Any]
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a call with one of them changed."""
    if len(args) > index:
        return [*args[:index], change(args[index]), *args[index + 1 :]], dict(kwargs)
    return list(args), {**kwargs, name: change(kwargs.get(name))}


@contextmanager
def _same_randomness(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[None]:
    device = next(value.device for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
    if device.type == "cpu":
        with torch.random.fork_rng(devices=[]):
            yield
    else:
        with torch.random.fork_rng(devices=[device.index], device_type=device.type):
            yield


def dropped_by_draw(func: Callable[..., Any], *, is_keep: bool, output: Any) -> float | None:
    """The fraction dropped by code that draws a mask itself, from the call in which the rate met the random numbers.

    ``output`` is that of ``func``, one of ``noise < p``, ``noise >= p``, ``floor(keep + noise)`` or
    ``bernoulli(keep)``. None for any other code.
    """
    name = func.__name__.strip("_")
    if not isinstance(output, Tensor):
        return None
    output = output.detach()
    if name in ("lt", "le", "gt", "ge"):
        fraction = float(output.double().mean())
        return fraction if name.startswith("l") != is_keep else 1.0 - fraction
    if name in ("add", "radd") and is_keep:
        return float((output < 1.0).double().mean())
    if name.startswith("bernoulli"):
        fraction = float(output.double().mean())
        return 1.0 - fraction if is_keep else fraction
    return None
