"""DropConnect: weights are dropped instead of activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.func import functional_call

from lightning_dropout.layers.mask import drop
from lightning_dropout.layers.rate import LiveRate

__all__ = ["DropConnect"]


class DropConnect(LiveRate):
    """Drop entries of the weights of ``module``, with one mask per call (DropConnect, Wan et al. 2013).

    The default is ``weight``, as of any linear or convolutional layer, and in an RNN all recurrent matrices,
    ``weight_hh_l*`` (the weight drop of AWD-LSTM, Merity et al. 2018); one call of an RNN is the whole sequence, so the
    mask is shared over time. ``weights`` names other parameters. What is kept is scaled by ``1 / (1 - rate)``.

    The module's own parameters never change: they keep their names under ``module.`` and stay what optimizers and
    checkpoints see. Under FSDP shard this layer, not the module inside it.

    Raises:
        ValueError: If ``module`` has no parameter of a given name.

    Example:
        >>> layer = DropConnect(nn.Linear(4, 2), 0.5)
        >>> list(layer.state_dict())
        ['module.weight', 'module.bias']
    """

    kind = "weight"

    def __init__(self, module: nn.Module, rate: float, *, weights: Sequence[str] | None = None) -> None:
        super().__init__(rate)
        found = [name for name, _ in module.named_parameters()]
        if weights is None:
            is_recurrent = isinstance(module, nn.RNNBase)
            weights = [name for name in found if name.startswith("weight_hh_l")] if is_recurrent else ["weight"]
        if missing := [name for name in weights if name not in found]:
            raise ValueError(
                f"DropConnect({type(module).__name__}, weights={list(weights)}): there is no {missing[0]!r}. "
                f"Found: {', '.join(found) or 'no parameters'}. Change weights=."
            )
        self.module, self.weights = module, tuple(weights)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the module as it would be called itself."""
        if self.idle:
            return self.module(*args, **kwargs)
        rate = self.live_rate
        whole = dict(self.module.named_parameters())
        dropped = {name: drop(whole[name], rate, whole[name].shape) for name in self.weights}
        return functional_call(self.module, dropped, args, kwargs)

    def extra_repr(self) -> str:
        """Rate and names of the weights."""
        return f"{super().extra_repr()}, weights={list(self.weights)}"
