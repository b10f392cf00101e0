"""A multilayer perceptron with dropout on its inputs and on every hidden layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from lightning_dropout.layers import AlphaDropout, ConcreteDropout, DropConnect, Dropout, GaussianDropout
from lightning_dropout.layers.rate import check_rate
from lightning_dropout.models.checks import check_dropout, check_sizes, check_widths

__all__ = ["MLP", "MLPDropout"]

_ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh, "selu": nn.SELU}
_NORMS = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
_ON_ACTIVATIONS = {"element": Dropout, "gaussian": GaussianDropout, "alpha": AlphaDropout}
_ON_LAYERS = ("concrete", "dropconnect")


@dataclass(frozen=True)
class MLPDropout:
    """The dropout of an MLP.

    The defaults are those of Srivastava et al. (2014): of the inputs 20% are dropped, of the hidden units half. Alpha
    dropout wants less: Klambauer et al. (2017) use .05 and .1.

    Args:
        input: Rate on what the first linear layer sees.
        hidden: Rate on what every later linear layer sees.
        kind: ``"element"``, ``"gaussian"`` and ``"alpha"`` (with SELU) drop activations. ``"dropconnect"`` drops
            weights of the linear layer instead, and ``"concrete"`` learns the rates, which start at these.
        weight_regularizer: For ``"concrete"``: see ``ConcreteDropout``.
        dropout_regularizer: For ``"concrete"``: see ``ConcreteDropout``.

    Raises:
        ValueError: If a rate is outside [0, 1] or the kind is unknown.
    """

    input: float = 0.2
    hidden: float = 0.5
    kind: Literal["element", "gaussian", "alpha", "concrete", "dropconnect"] = "element"
    weight_regularizer: float = 1e-6
    dropout_regularizer: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("input", "hidden"):
            check_rate(getattr(self, name), what=f"MLPDropout {name}")
        if self.kind not in (*_ON_ACTIVATIONS, *_ON_LAYERS):
            known = ", ".join((*_ON_ACTIVATIONS, *_ON_LAYERS))
            raise ValueError(f"MLPDropout(kind={self.kind!r}) is unknown. Give one of {known}.")

    def on_activations(self, rate: float) -> nn.Module:
        """The layer that drops activations; nothing, where the linear layers drop."""
        return _ON_ACTIVATIONS[self.kind](rate) if self.kind in _ON_ACTIVATIONS else nn.Identity()

    def on_layer(self, linear: nn.Linear, rate: float) -> nn.Module:
        """``linear`` as it is, or in the wrapper that drops its inputs or weights."""
        if self.kind == "dropconnect":
            return DropConnect(linear, rate)
        if self.kind == "concrete":
            return ConcreteDropout(
                linear,
                rate,
                weight_regularizer=self.weight_regularizer,
                dropout_regularizer=self.dropout_regularizer,
            )
        return linear


class MLPLayer(nn.Module):
    """A hidden layer: ``linear``, ``norm``, ``activation``, then ``hidden``, its dropout."""

    def __init__(self, linear: nn.Module, width: int, *, activation: str, norm: str | None, hidden: nn.Module) -> None:
        super().__init__()
        self.linear = linear
        self.norm = nn.Identity() if norm is None else _NORMS[norm](width)
        self.activation = _ACTIVATIONS[activation]()
        self.hidden = hidden

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, ...)`` to ``(batch, width)``."""
        x = self.hidden(self.activation(self.norm(self.linear(x))))
        return x


class MLP(nn.Module):
    """Linear layers of any widths, each but the last with norm, activation and dropout, in this order.

    Its sites are ``input`` and ``layers.<i>.hidden``; for the kinds that drop in the linear layers themselves
    ``layers.<i>.linear`` and ``output``. They exist at rate 0 as well.

    Args:
        num_inputs: Numbers per sample; what has more dimensions than ``(batch, num_inputs)`` is flattened.
        num_outputs: Classes, or numbers to predict.
        widths: Width of every hidden layer.
        activation: With ``"selu"`` the weights start as self-normalising networks need it.
        norm: Batch norm, layer norm or none, before the activation.
        dropout: Rates and kind.

    Raises:
        ValueError: If a setting is unknown, or if alpha dropout meets another activation than SELU.

    Example:
        >>> import torch
        >>> network = MLP(64, 10, widths=(128, 128), dropout=MLPDropout(hidden=0.3))
        >>> network(torch.randn(5, 1, 8, 8)).shape
        torch.Size([5, 10])
        >>> network.layers[1].hidden
        Dropout(p=0.3, inplace=False)
    """

    def __init__(
        self,
        num_inputs: int,
        num_outputs: int,
        *,
        widths: Sequence[int] = (256, 256),
        activation: Literal["relu", "gelu", "silu", "tanh", "selu"] = "relu",
        norm: Literal["batch", "layer"] | None = None,
        dropout: MLPDropout = MLPDropout(),
    ) -> None:
        super().__init__()
        check_sizes("MLP", num_inputs=num_inputs, num_outputs=num_outputs)
        check_widths("MLP", widths)
        check_dropout("MLP", dropout, MLPDropout)
        if activation not in _ACTIVATIONS:
            raise ValueError(f"MLP(activation={activation!r}) is unknown. Give one of {', '.join(_ACTIVATIONS)}.")
        if norm is not None and norm not in _NORMS:
            raise ValueError(f"MLP(norm={norm!r}) is unknown. Give one of {', '.join(_NORMS)}, or null for none.")
        if dropout.kind == "alpha" and activation != "selu":
            raise ValueError(
                f"MLP(activation={activation!r}, dropout=MLPDropout(kind='alpha')): alpha dropout keeps mean and "
                "variance after SELU only. Set activation='selu', or another kind."
            )
        sizes = [num_inputs, *widths, num_outputs]
        rates = [dropout.input] + [dropout.hidden] * len(widths)
        *hidden_linears, output_linear = [
            dropout.on_layer(nn.Linear(num_in, num_out), rate)
            for num_in, num_out, rate in zip(sizes[:-1], sizes[1:], rates, strict=True)
        ]
        self.input = dropout.on_activations(dropout.input)
        self.layers = nn.ModuleList(
            MLPLayer(linear, width, activation=activation, norm=norm, hidden=dropout.on_activations(dropout.hidden))
            for linear, width in zip(hidden_linears, widths, strict=True)
        )
        self.output = output_linear
        if activation == "selu":
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, ...)`` to ``(batch, num_outputs)``."""
        x = self.input(x.flatten(1))
        for layer in self.layers:
            x = layer(x)
        outputs: Tensor = self.output(x)
        return outputs
