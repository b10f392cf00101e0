"""Drop-in replacements for torch's own dropout layers, with a rate that compiled code can follow."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from lightning_dropout.layers import functional
from lightning_dropout.layers.rate import LiveRate

__all__ = ["AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout"]


class _LiveDropout(LiveRate, _DropoutNd):
    """What they have in common: torch's constructor, torch's kernel in eager, ours when compiled."""

    kernel: ClassVar[staticmethod[..., Tensor]]
    live_kernel: ClassVar[staticmethod[[Tensor, Tensor], Tensor]]

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__(p)
        self.inplace = inplace

    @property
    def p(self) -> float:
        """Probability of dropping, under torch's name."""
        return self.rate

    @p.setter
    def p(self, rate: float) -> None:
        self.rate = rate

    def forward(self, input: Tensor) -> Tensor:
        """Drop from ``input`` in training; return it as it is in eval."""
        if self.idle:
            return input
        if not torch.compiler.is_compiling():
            return self.kernel(input, self.rate, True, self.inplace)
        output = self.live_kernel(input, self.rate_tensor)
        return input.copy_(output) if self.inplace else output

    def extra_repr(self) -> str:
        """As torch prints it."""
        return f"p={self.rate:g}, inplace={self.inplace}"


class Dropout(_LiveDropout, nn.Dropout):
    """``torch.nn.Dropout`` whose rate compiled code can follow; bit-identical to it in eager.

    Example:
        >>> layer = Dropout(0.5).eval()
        >>> layer(torch.tensor([2.0, 4.0, 6.0, 8.0]))
        tensor([2., 4., 6., 8.])
    """

    kind = "element"
    kernel = staticmethod(F.dropout)
    live_kernel = staticmethod(functional.dropout)


class Dropout1d(_LiveDropout, nn.Dropout1d):
    """``torch.nn.Dropout1d``: drops whole channels of ``(batch, channels, length)``."""

    kind = "channel"
    kernel = staticmethod(F.dropout1d)
    live_kernel = staticmethod(functional.dropout1d)


class Dropout2d(_LiveDropout, nn.Dropout2d):
    """``torch.nn.Dropout2d``: drops whole channels of ``(batch, channels, height, width)``."""

    kind = "channel"
    kernel = staticmethod(F.dropout2d)
    live_kernel = staticmethod(functional.dropout2d)


class Dropout3d(_LiveDropout, nn.Dropout3d):
    """``torch.nn.Dropout3d``: drops whole channels of ``(batch, channels, depth, height, width)``."""

    kind = "channel"
    kernel = staticmethod(F.dropout3d)
    live_kernel = staticmethod(functional.dropout3d)


class _LiveAlphaDropout(_LiveDropout):
    """Never in place: torch's alpha layers take ``inplace`` and ignore it."""

    kind = "alpha"

    def forward(self, input: Tensor) -> Tensor:
        """Drop from ``input`` in training; return it as it is in eval."""
        if self.idle:
            return input
        if not torch.compiler.is_compiling():
            return self.kernel(input, self.rate, True)
        return self.live_kernel(input, self.rate_tensor)


class AlphaDropout(_LiveAlphaDropout, nn.AlphaDropout):
    """``torch.nn.AlphaDropout``: keeps mean and variance of SELU networks (Klambauer et al. 2017)."""

    kernel = staticmethod(F.alpha_dropout)
    live_kernel = staticmethod(functional.alpha_dropout)


class FeatureAlphaDropout(_LiveAlphaDropout, nn.FeatureAlphaDropout):
    """``torch.nn.FeatureAlphaDropout``: alpha dropout of whole channels of ``(batch, channels, ...)``."""

    kernel = staticmethod(F.feature_alpha_dropout)
    live_kernel = staticmethod(functional.feature_alpha_dropout)
