"""Live rates for modules that are not ours: a rate can change every step and the compiled graph stays.

Torch compiles a float attribute such as ``nn.Dropout.p`` into the graph. While sites are driven, the class of their
module is therefore replaced, in place, by a subclass of the same name. In eager code it changes nothing. While
``torch.compile`` traces it, the attribute reads as a *slot*, a constant that stands for the rate, and ``forward`` runs
under a function mode that turns every dropout call with a slot for its rate into one with the live tensor. The mode
is traced away: it leaves nothing to guard and nothing to run.
"""

from __future__ import annotations

import copyreg
import itertools
from collections.abc import Callable
from functools import cache, wraps
from types import FunctionType
from typing import Any

import torch
import torch._dynamo
import torch.nn.functional as F
from torch import Tensor, nn
from torch.compiler import is_compiling
from torch.overrides import TorchFunctionMode

from lightning_dropout.layers import LiveRate
from lightning_dropout.layers import functional as live
from lightning_dropout.sites.code import names_read
from lightning_dropout.sites.site import Site

__all__ = ["attach", "detach", "is_attachable"]

_KINDS = frozenset({"element", "channel", "alpha", "attention", "context", "embedding", "path"})
_STATE = ("_live_slots", "_live_tensors")
Rate = tuple[Tensor, Tensor]
_new_slots = (0.5 + n * 2.0**-40 for n in itertools.count(1))


class _Checkpointing:
    """Lets dynamo trace the mode inside activation checkpointing while anything is attached.

    The mode enters and leaves a stack, which dynamo takes for a side effect that the recomputation would have to
    repeat. It does repeat it: it calls the same ``forward``.
    """

    def __init__(self) -> None:
        self._num_attached = 0
        self._before = False

    def acquire(self) -> None:
        config = torch._dynamo.config
        if self._num_attached == 0:
            self._before = config.skip_fwd_side_effects_in_bwd_under_checkpoint
            config.skip_fwd_side_effects_in_bwd_under_checkpoint = True
        self._num_attached += 1

    def release(self) -> None:
        self._num_attached -= 1
        if self._num_attached == 0:
            torch._dynamo.config.skip_fwd_side_effects_in_bwd_under_checkpoint = self._before


_CHECKPOINTING = _Checkpointing()


@cache
def _slot(*role: object) -> float:
    """The constant that stands for the rate of all sites in one role, so that equal layers share compiled code."""
    return next(_new_slots)


def is_attachable(site: Site) -> bool:
    """Whether a rate is an attribute that goes into tensor operations, not into an RNN or a Python comparison."""
    return site.kind in _KINDS and "." not in site.attribute and not isinstance(site.module, (LiveRate, nn.RNNBase))


def attach(module: nn.Module, attribute: str, rate: Rate, *, parent: nn.Module | None, child_name: str) -> None:
    """Let code that is compiled from now on read ``rate`` where it would read ``module.attribute``.

    ``rate`` is a 0-d tensor on the device of the model, and the same on the CPU. ``parent`` is the module around,
    which holds ``module`` under ``child_name``: some hand the rate of a dropout layer to a fused attention instead of
    calling the layer.
    """
    cls = _original(module)
    if parent is not None and attribute in names_read(_original(parent)):
        slot = _slot(cls, attribute, _original(parent), child_name)
        _state(parent)["_live_tensors"][slot] = rate
        _swap_class(parent)
    else:
        slot = _slot(cls, attribute)
    _state(module)["_live_tensors"][slot] = rate
    _state(module)["_live_slots"][attribute] = slot
    _swap_class(module)
    _CHECKPOINTING.acquire()


def detach(module: nn.Module, attribute: str, *, parent: nn.Module | None) -> None:
    """Undo ``attach``: the modules have their own classes again once nothing of theirs is attached."""
    slot = _state(module)["_live_slots"].pop(attribute, None)
    for owner in (module,) if parent is None else (module, parent):  # not by truth: a module may be empty
        _state(owner)["_live_tensors"].pop(slot, None)
        _swap_class(owner)
    _CHECKPOINTING.release()


def _original(module: nn.Module) -> Any:
    cls = type(module)
    return getattr(cls, "_live_original", cls)


def _state(module: nn.Module) -> dict[str, Any]:
    state = vars(module)
    for name in _STATE:
        state.setdefault(name, {})
    return state


def _swap_class(module: nn.Module) -> None:
    """Give ``module`` the class that its state asks for."""
    cls, state = _original(module), vars(module)
    if state["_live_tensors"]:
        module.__class__ = _live_class(cls, frozenset(state["_live_slots"]))
    else:
        module.__class__ = cls
        for name in _STATE:
            del state[name]


@cache
def _live_class(cls: Any, attributes: frozenset[str]) -> Any:
    forward = cls.forward

    @wraps(forward)
    def live_forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_compiling():
            return forward(self, *args, **kwargs)
        with _LiveRates(self._live_tensors):
            return forward(self, *args, **kwargs)

    def reduce(self: Any, protocol: Any) -> Any:
        twin = object.__new__(cls)
        vars(twin).update({name: value for name, value in vars(self).items() if name not in _STATE})
        reduced = twin.__reduce_ex__(protocol)
        if reduced[0] is copyreg.__newobj__:  # type: ignore[attr-defined]
            # Pickle wants the object of __newobj__ to be of its class, which ours is only without us.
            return copyreg._reconstructor, (cls, object, None), *reduced[2:]  # type: ignore[attr-defined]
        return reduced

    namespace = {
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "__reduce_ex__": reduce,
        "_live_original": cls,
        "forward": live_forward,
        **{name: _rate_property(name) for name in attributes},
    }
    return type(cls)(cls.__name__, (cls,), namespace)


def _rate_property(name: str) -> property:
    def get(self: Any) -> float:
        rate: float = self._live_slots[name] if is_compiling() else self.__dict__[name]
        return rate

    def set(self: Any, rate: float) -> None:
        self.__dict__[name] = rate

    return property(get, set)


class _LiveRates(TorchFunctionMode):
    """Turns dropout calls that carry a slot into calls with the live tensor behind it. Only ever traced."""

    def __init__(self, tensors: dict[float, Rate]) -> None:
        super().__init__()
        self.tensors = tensors

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.unflatten:  # calls super(), which dynamo cannot trace from here
            return torch.unflatten(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return self._attention(*args, **kwargs)
        if func is F.multi_head_attention_forward and self._has(args[10]):
            with _LiveRates(self.tensors):
                return _multi_head_attention(*args, **kwargs)
        if func in _LIVE_CALLS:
            rate = args[1] if len(args) > 1 else kwargs.get("p", 0.5)
            if self._has(rate):
                return self._drop(func, self.tensors[rate][0], *args, **kwargs)
        return func(*map(self._resolved, args), **{name: self._resolved(value) for name, value in kwargs.items()})

    def _resolved(self, value: Any) -> Any:
        """The live tensor where ``value`` is a slot, for modules that drop by their own arithmetic."""
        if isinstance(value, float):
            if value in self.tensors:
                return self.tensors[value][0]
            if 1.0 - value in self.tensors:
                # Not 0: what is kept is divided by it, even where nothing is.
                return (1.0 - self.tensors[1.0 - value][0]).clamp(min=1e-7)
        return value

    def _has(self, rate: Any) -> bool:
        return isinstance(rate, float) and rate in self.tensors

    def _drop(
        self,
        func: Callable[..., Any],
        rate: Tensor,
        input: Tensor,
        p: float = 0.5,
        training: bool | None = None,
        inplace: bool = False,
    ) -> Tensor:
        if training is None:
            training = func not in (F.alpha_dropout, F.feature_alpha_dropout)
        if not training:
            return input
        output = _LIVE_CALLS[func](input, rate)
        return input.copy_(output) if inplace else output

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if self._has(dropout_p):
            rate, host_rate = self.tensors[dropout_p]
            return live.attention(query, key, value, rate, host_rate, mask=attn_mask, is_causal=is_causal, scale=scale)
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )


_LIVE_CALLS: dict[Callable[..., Any], Callable[[Tensor, Tensor], Tensor]] = {
    F.dropout: live.dropout,
    F.dropout1d: live.dropout1d,
    F.dropout2d: live.dropout2d,
    F.dropout3d: live.dropout3d,
    F.alpha_dropout: live.alpha_dropout,
    F.feature_alpha_dropout: live.feature_alpha_dropout,
}


def _without_dispatch(function: Any) -> FunctionType:
    """``function`` as it is, but blind to function modes at its own level, so that one can see into it."""
    scope = {
        **function.__globals__,
        "has_torch_function": lambda args: False,
        "_check_key_padding_mask": lambda *args: None,  # its message is a closure, which dynamo cannot trace here
    }
    del scope["__name__"]  # or dynamo would take the globals of the module by that name
    copy = FunctionType(function.__code__, scope, function.__name__, function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


_multi_head_attention = _without_dispatch(F.multi_head_attention_forward)
