"""A dropout rate that can change every step without recompiling the model that reads it."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["LiveRate", "RateVector", "check_rate"]


def check_rate(rate: float, *, what: str = "rate") -> float:
    """Return ``rate`` as a float.

    Raises:
        ValueError: If it is no number in [0, 1].
    """
    try:
        value = float(rate)
    except (TypeError, ValueError):
        raise ValueError(
            f"{what} is {rate!r}, which is no number. Give the probability of dropping, in [0, 1]."
        ) from None
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{what} is {value}. Give the probability of dropping, in [0, 1].")
    return value


class RateVector:
    """The rates of many layers: float64 on the host for eager code, one fp32 vector per device for compiled code.

    Writing costs one host operation and one device operation, however many layers read from it.
    """

    def __init__(self, rates: Sequence[float]) -> None:
        self.floats = array("d", rates)
        self.host = torch.frombuffer(self.floats, dtype=torch.float64) if rates else torch.empty(0, dtype=torch.float64)
        self._copies: dict[torch.device, Tensor] = {}

    def __len__(self) -> int:
        return len(self.floats)

    def __getitem__(self, index: int) -> float:
        return self.floats[index]

    def __setitem__(self, index: int, rate: float) -> None:
        self.floats[index] = rate
        for copy in self._copies.values():
            copy[index].fill_(rate)

    def on(self, device: torch.device) -> Tensor:
        """The fp32 copy of all rates on ``device``, shape ``(num_layers,)``, kept up to date from now on."""
        if device not in self._copies:
            with torch.inference_mode(False):
                self._copies[device] = self.host.to(device="cpu", dtype=torch.float32).to(device)
        return self._copies[device]

    def fill(self, rate: float) -> None:
        """Give every layer the same rate."""
        self.host.fill_(rate)
        for copy in self._copies.values():
            copy.fill_(rate)

    def write(self, rates: Tensor) -> None:
        """Give layer ``i`` the rate ``rates[i]``; ``rates`` is float64 on the host, shape ``(num_layers,)``."""
        self.host.copy_(rates)
        for copy in self._copies.values():
            copy.copy_(rates)


class LiveRate(nn.Module):
    """Base of every layer here: holds one rate in the two forms that eager and compiled code need.

    ``rate`` is a Python float, so eager code calls torch's fused kernels with it. ``rate_tensor`` is a 0-d fp32
    tensor of the same value: compiled code reads it as an input, so a new rate is no reason to compile again, as a
    changed float would be. It is a plain attribute and not a buffer, because buffers are averaged by EMA, broadcast
    by DDP, cast by ``.bfloat16()``, saved in checkpoints and lost by ``to_empty()``.

    Subclasses set ``kind``, return their input where ``idle``, and do their arithmetic with ``live_rate``, or branch
    on ``torch.compiler.is_compiling()`` where eager code has a fused kernel to call.
    """

    kind: str
    rate_tensor: Tensor
    #: The same on the CPU, for operators that read it when they are launched.
    host_rate_tensor: Tensor
    #: True while the layer was built at rate 0 and nothing has driven it, so that compiled code may leave it out.
    dormant: bool

    def __init__(self, rate: float) -> None:
        nn.Module.__init__(self)  # not super(): torch's own layers in the MRO would set a plain float
        self.bind(RateVector([check_rate(rate, what=f"{type(self).__name__} rate")]), 0)
        self.dormant = self.rate == 0.0

    @property
    def rate(self) -> float:
        """Probability of dropping, in [0, 1]."""
        return self._floats[self._index]

    @rate.setter
    def rate(self, rate: float) -> None:
        self._rates[self._index] = check_rate(rate, what=f"{type(self).__name__} rate")
        self.dormant = self.dormant and self.rate == 0.0

    @property
    def live_rate(self) -> float | Tensor:
        """The rate in the form that the running code needs: a float in eager, a 0-d fp32 tensor when compiled."""
        return self.rate_tensor if torch.compiler.is_compiling() else self.rate

    @property
    def idle(self) -> bool:
        """True where ``forward`` has nothing to drop: in eval, and at rate 0 where the running code can know it."""
        if not self.training:
            return True
        return self.dormant if torch.compiler.is_compiling() else self._floats[self._index] == 0.0

    def bind(self, rates: RateVector, index: int, device: torch.device | None = None) -> None:
        """Read the rate from entry ``index`` of ``rates`` from now on."""
        self._rates, self._index = rates, index
        self._floats = rates.floats  # eager code reads a rate many times a step: without a call, please
        self.host_rate_tensor = rates.on(torch.device("cpu"))[index]
        self.rate_tensor = rates.on(device or torch.device("cpu"))[index]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LiveRate:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        device = fn(torch.empty(0, device=self.rate_tensor.device)).device
        if device.type != "meta" and device != self.rate_tensor.device:
            self.bind(self._rates, self._index, device)
        return self

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        for name in ("_rates", "_index", "_floats", "rate_tensor", "host_rate_tensor"):
            del state[name]
        return {**state, "rate": self.rate, "_rate_device": self.rate_tensor.device}

    def __setstate__(self, state: dict[str, Any]) -> None:
        rate, device = state.pop("rate"), state.pop("_rate_device")
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.bind(RateVector([rate]), 0, device)

    def extra_repr(self) -> str:
        """The rate, as ``print(model)`` shows it."""
        return f"rate={self.rate:g}"
