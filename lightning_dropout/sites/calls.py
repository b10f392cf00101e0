"""The one table of dropout calls: which functions drop, and where their rate and their training flag stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["DropoutCall", "dropout_call", "is_draw"]

_DRAWS = frozenset(
    {
        *("rand", "rand_like", "randn", "randn_like", "randint", "randint_like", "randperm", "bernoulli", "bernoulli_"),
        *("uniform_", "normal", "normal_", "exponential_", "random_", "poisson", "multinomial"),
    }
)


@dataclass(frozen=True)
class _Argument:
    index: int
    name: str
    default: Any = None

    def read(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        return args[self.index] if len(args) > self.index else kwargs.get(self.name, self.default)

    def is_given(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        return len(args) > self.index or self.name in kwargs


@dataclass(frozen=True)
class DropoutCall:
    """How one function takes its rate and its training flag; ``training`` is None where the rate alone decides.

    ``drops`` says what loses entries: the ``"input"``; or inside a larger computation the attention ``"weights"`` or
    the ``"hidden"`` states between the layers of an RNN.
    """

    name: str
    rate: _Argument
    training: _Argument | None
    drops: Literal["input", "weights", "hidden"] = "input"

    def active_rate(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> float:
        """The probability with which this call drops: 0 if its training flag is off."""
        if self.training is not None and not self.training.read(args, kwargs):
            return 0.0
        return float(self.rate.read(args, kwargs))


def _calls() -> dict[Callable[..., Any], DropoutCall]:
    p, train = _Argument(1, "p", 0.5), _Argument(2, "train")
    table: dict[Callable[..., Any], DropoutCall] = {
        function: DropoutCall(f"F.{function.__name__}", p, _Argument(2, "training", default))
        for function, default in [
            (F.dropout, True),
            (F.dropout1d, True),
            (F.dropout2d, True),
            (F.dropout3d, True),
            (F.alpha_dropout, False),
            (F.feature_alpha_dropout, False),
        ]
    }
    for name in ("dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout"):
        for variant in (name, f"{name}_"):
            table[getattr(torch, variant)] = DropoutCall(f"torch.{variant}", p, train)
    table[torch.native_dropout] = DropoutCall("torch.native_dropout", p, train)
    table[torch.ops.aten.dropout] = DropoutCall("aten.dropout", p, train)
    table[torch.ops.aten.native_dropout] = DropoutCall("aten.native_dropout", p, train)
    table[F.scaled_dot_product_attention] = DropoutCall(
        "F.scaled_dot_product_attention", _Argument(4, "dropout_p", 0.0), None, "weights"
    )
    table[F.multi_head_attention_forward] = DropoutCall(
        "F.multi_head_attention_forward", _Argument(10, "dropout_p", 0.0), _Argument(13, "training", True), "weights"
    )
    return table


_CALLS = _calls()
_RNNS = frozenset({torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu})


def dropout_call(function: Callable[..., Any], args: Sequence[Any]) -> DropoutCall | None:
    """The table's entry for ``function``; None if it is no dropout call."""
    if function in _RNNS:
        # Two overloads: packed input has its batch sizes second, all others the initial state.
        packed = isinstance(args[3], (list, tuple)) and isinstance(args[1], Tensor)
        index = 6 if packed else 5
        if args[index - 1] == 1:  # drops between layers, so one layer has nowhere to
            return None
        rate, train = _Argument(index, "dropout"), _Argument(index + 1, "train")
        return DropoutCall(f"torch.{function.__name__}", rate, train, "hidden")
    try:
        return _CALLS.get(function)
    except TypeError:  # not hashable, so not ours
        return None


def is_draw(function: Callable[..., Any]) -> bool:
    """Whether ``function`` draws random numbers, with which code may make a mask itself."""
    return getattr(function, "__name__", "") in _DRAWS
