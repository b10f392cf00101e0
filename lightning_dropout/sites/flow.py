"""What happens to a tensor before and after it is dropped from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

__all__ = ["Drop", "Flow", "Trail", "names"]


def names(text: str) -> frozenset[str]:
    """The words of ``text``."""
    return frozenset(text.split())


_CASTS = names("to float half bfloat16 double type type_as contiguous clone detach")
_INACTIVE = names("dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout")
_ACTIVATIONS = names(
    "relu relu_ relu6 gelu silu silu_ mish elu selu celu leaky_relu prelu sigmoid tanh hardswish hardsigmoid hardtanh "
    "softplus neg abs clamp nan_to_num"
)
_RESHAPES = names(
    "view reshape view_as reshape_as transpose permute flatten unflatten squeeze unsqueeze expand swapaxes swapdims "
    "movedim chunk split unbind tile roll pad as_strided __getitem__ __get__"
)
_COMBINATIONS = names(
    "add add_ __radd__ __iadd__ sub sub_ __rsub__ __isub__ mul mul_ __rmul__ __imul__ div div_ true_divide "
    "__itruediv__ where masked_fill masked_fill_ maximum minimum"
)
_PRODUCTS = names("matmul __matmul__ __rmatmul__ mm bmm baddbmm einsum")
_RECURRENT = names("lstm gru rnn_tanh rnn_relu")
_LOSSES = names("cross_entropy log_softmax nll_loss binary_cross_entropy_with_logits")
_SOURCES = {
    "linear": "linear",
    "addmm": "linear",
    "bilinear": "linear",
    "multi_head_attention_forward": "linear",  # ends with its output projection
    "embedding": "embedding",
    "batch_norm": "batch_norm",
    "layer_norm": "norm",
    "group_norm": "norm",
    "rms_norm": "norm",
    "instance_norm": "norm",
    "scaled_dot_product_attention": "attention",
    **dict.fromkeys(_RECURRENT, "recurrent"),
    **{f"conv{kind}{n}d": "convolution" for kind in ("", "_transpose") for n in (1, 2, 3)},
}
_LAYERS = frozenset({"linear", "convolution", "embedding", "recurrent"})


@dataclass(eq=False)
class Drop:
    """One dropout operation that ran, and what was before and after it."""

    after: str | None = None
    after_drop: Drop | None = None
    on_map: bool = False
    on_logits: bool = False
    position: str | None = None
    num_layers_before: int = 0


@dataclass(frozen=True)
class Trail:
    """What a tensor came out of.

    ``source`` is the last function that did more than work on single elements or change the shape; ``drop`` is that
    function if it was a dropout. ``undecided`` are dropouts that turn out to be on attention scores or weights if the
    tensor becomes the weights of a product. ``stage`` is ``"weights"`` after a softmax and ``"context"`` after the
    product with them.
    """

    source: str | None = None
    drop: Drop | None = None
    is_map: bool = False
    stage: str | None = None
    undecided: tuple[tuple[Drop, str | None], ...] = ()


@dataclass
class Flow:
    """Follows tensors through the torch functions that a model calls."""

    num_layers: int = 0
    _trails: Any = field(default_factory=WeakTensorKeyDictionary)

    def of(self, tensor: object) -> Trail:
        """The trail of ``tensor``, empty where nothing is known."""
        trail: Trail = self._trails.get(tensor, Trail()) if isinstance(tensor, Tensor) else Trail()
        return trail

    def drop(self, drop: Drop, input: Tensor, output: Any) -> None:
        """Let ``drop`` turn ``input`` into ``output``."""
        trail = self.of(input)
        drop.after, drop.after_drop, drop.on_map = trail.source, trail.drop, trail.is_map
        drop.num_layers_before = self.num_layers
        if trail.stage == "context":
            drop.position = "context"
        undecided = (*trail.undecided, (drop, trail.stage))
        self._mark(output, replace(trail, source="dropout", drop=drop, undecided=undecided))

    def follow(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> None:
        """Note that ``func``, which dropped nothing or only inside, gave ``output``."""
        name = getattr(func, "__name__", "")
        if name not in _KNOWN and "pool" not in name:
            return
        inputs = list(_tensors((*args, *kwargs.values())))
        trail = self._trail_after(name, inputs)
        if trail.source in _LAYERS and trail.drop is None and name not in _PASSING:
            self.num_layers += 1
        if trail != Trail():
            self._mark(output, trail)
        elif isinstance(output, Tensor):
            self._trails.pop(output, None)  # written in place

    def _trail_after(self, name: str, inputs: Sequence[Tensor]) -> Trail:
        first = self.of(inputs[0]) if inputs else Trail()
        if name in _CASTS or name in _ACTIVATIONS or name in _INACTIVE:
            return first
        if name in _RESHAPES:
            return replace(first, is_map=False)
        if name in _COMBINATIONS:
            return first if len(inputs) == 1 else self._combined(inputs)
        if name in _PRODUCTS:
            return self._product(inputs)
        if name == "softmax":
            undecided = tuple((drop, stage or "scores") for drop, stage in first.undecided)
            return Trail("softmax", stage="weights", undecided=undecided) if inputs[0].dim() >= 3 else Trail()
        if name in _LOSSES:
            if first.drop is not None:
                first.drop.on_logits = True
            return Trail()
        if "pool" in name:
            return Trail("pool", is_map=first.is_map)
        source = _SOURCES[name]
        if source == "convolution" and any(size > 1 for size in inputs[1].shape[2:]):
            return Trail(source, is_map=True)
        # A convolution of size 1 is a linear layer: what it makes is a map only if it was one before.
        is_map = first.is_map and source in ("convolution", "batch_norm", "norm")
        return Trail(source, is_map=is_map, stage="context" if source == "attention" else None)

    def _combined(self, inputs: Sequence[Tensor]) -> Trail:
        """What is left to say of the sum or product of several tensors."""
        trails = [self.of(tensor) for tensor in inputs]
        return Trail(
            is_map=any(trail.is_map for trail in trails),
            stage=next((trail.stage for trail in trails if trail.stage), None),
            undecided=tuple(dict.fromkeys(item for trail in trails for item in trail.undecided)),
        )

    def _product(self, inputs: Sequence[Tensor]) -> Trail:
        if any(isinstance(tensor, nn.Parameter) for tensor in inputs):
            return Trail("linear")
        for trail in map(self.of, inputs):
            if trail.stage == "weights":
                for drop, stage in trail.undecided:
                    drop.position = stage
                return Trail("attention", stage="context")
        return Trail("product")

    def _mark(self, output: Any, trail: Trail) -> None:
        for tensor in _tensors(output if isinstance(output, (tuple, list)) else (output,)):
            self._trails[tensor] = trail


_PASSING = _CASTS | _INACTIVE | _ACTIVATIONS | _RESHAPES | _COMBINATIONS
_KNOWN = _PASSING | _PRODUCTS | _LOSSES | _SOURCES.keys() | {"softmax"}


def _tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(value)
