"""Drop-in replacements for torch's own dropout layers, with a rate that compiled code can follow."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from lightning_dropout.layers.mask import drop, keep_mask
from lightning_dropout.layers.rate import LiveRate

__all__ = ["AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout"]

# -scale * alpha of SELU: the value a unit saturates to (Klambauer et al. 2017).
_SATURATION = 1.7580993408473766


class _LiveDropout(LiveRate, _DropoutNd):
    """What they have in common: torch's constructor, torch's kernel in eager, ours when compiled."""

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
        if not torch.compiler.is_compiling():
            return self.eager(input)
        if self.idle:
            return input
        output = self.compiled(input)
        return input.copy_(output) if self.inplace else output

    def eager(self, input: Tensor) -> Tensor:
        """Call torch's kernel."""
        raise NotImplementedError

    def compiled(self, input: Tensor) -> Tensor:
        """The same distribution, drawn with the live rate."""
        return drop(input, self.rate_tensor, self.mask_shape(input))

    def mask_shape(self, input: Tensor) -> tuple[int, ...]:
        """Shape of the mask, broadcast over ``input``."""
        return tuple(input.shape)

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

    def eager(self, input: Tensor) -> Tensor:
        """Call torch's kernel."""
        return F.dropout(input, self.rate, self.training, self.inplace)


class _LiveChannelDropout(_LiveDropout):
    kind = "channel"
    num_spatial: ClassVar[int]

    def mask_shape(self, input: Tensor) -> tuple[int, ...]:
        """One entry per sample and channel. An input without a batch dimension has a channel dimension first."""
        num_leading = max(input.dim() - self.num_spatial, 1)
        return (*input.shape[:num_leading], *(1,) * (input.dim() - num_leading))


class Dropout1d(_LiveChannelDropout, nn.Dropout1d):
    """``torch.nn.Dropout1d``: drops whole channels of ``(batch, channels, length)``."""

    num_spatial = 1

    def eager(self, input: Tensor) -> Tensor:
        """Call torch's kernel."""
        return F.dropout1d(input, self.rate, self.training, self.inplace)


class Dropout2d(_LiveChannelDropout, nn.Dropout2d):
    """``torch.nn.Dropout2d``: drops whole channels of ``(batch, channels, height, width)``."""

    num_spatial = 2

    def eager(self, input: Tensor) -> Tensor:
        """Call torch's kernel."""
        return F.dropout2d(input, self.rate, self.training, self.inplace)

    def mask_shape(self, input: Tensor) -> tuple[int, ...]:
        """As torch does today: a 3-D input is read as ``(batch, channels, length)``."""
        return (*input.shape[:2], *(1,) * (input.dim() - 2))


class Dropout3d(_LiveChannelDropout, nn.Dropout3d):
    """``torch.nn.Dropout3d``: drops whole channels of ``(batch, channels, depth, height, width)``."""

    num_spatial = 3

    def eager(self, input: Tensor) -> Tensor:
        """Call torch's kernel."""
        return F.dropout3d(input, self.rate, self.training, self.inplace)


class _LiveAlphaDropout(_LiveDropout):
    kind = "alpha"

    def forward(self, input: Tensor) -> Tensor:
        """Drop from ``input`` in training, never in place: torch's alpha layers ignore ``inplace`` as well."""
        if not torch.compiler.is_compiling():
            return self.eager(input)
        return input if self.idle else self.compiled(input)

    def compiled(self, input: Tensor) -> Tensor:
        """Set what is dropped to the saturation value, then restore mean and variance by an affine map."""
        rate = self.rate_tensor
        a = ((_SATURATION**2 * rate + 1.0) * (1.0 - rate)).rsqrt()
        a = torch.where(rate < 1.0, a, 0.0)
        kept = torch.where(keep_mask(self.mask_shape(input), rate, input.device), input, -_SATURATION)
        return torch.where(rate < 1.0, a * (kept + _SATURATION * rate), 0.0).to(input.dtype)


class AlphaDropout(_LiveAlphaDropout, nn.AlphaDropout):
    """``torch.nn.AlphaDropout``: keeps mean and variance of SELU networks (Klambauer et al. 2017)."""

    def eager(self, input: Tensor) -> Tensor:
        """Call torch's kernel."""
        return F.alpha_dropout(input, self.rate, self.training)


class FeatureAlphaDropout(_LiveAlphaDropout, nn.FeatureAlphaDropout):
    """``torch.nn.FeatureAlphaDropout``: alpha dropout of whole channels of ``(batch, channels, ...)``."""

    def eager(self, input: Tensor) -> Tensor:
        """Call torch's kernel."""
        return F.feature_alpha_dropout(input, self.rate, self.training)

    def mask_shape(self, input: Tensor) -> tuple[int, ...]:
        """One entry per sample and channel."""
        return (*input.shape[:2], *(1,) * (input.dim() - 2))
