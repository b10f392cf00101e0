"""LayerDrop: whole layers are skipped."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_dropout.layers.mask import keep_mask
from lightning_dropout.layers.rate import LiveRate

__all__ = ["LayerDropout"]


class LayerDropout(LiveRate):
    """Skip a whole layer with probability ``rate``, once for the batch (LayerDrop, Fan et al. 2020).

    The layer has already run when this one decides: it takes the layer's input and output and returns one of the two.
    So every rank of a DDP or FSDP run makes the same collective calls whatever it drew, and the parameters of a
    skipped layer get zero gradients instead of none. Nothing is rescaled: in eval every layer is simply there.

    Example:
        >>> layer, skip = torch.nn.Linear(3, 3), LayerDropout(1.0)
        >>> x = torch.ones(2, 3)
        >>> skip(x, layer(x)).equal(x)
        True
    """

    kind = "layer"

    def forward(self, x: Tensor, output: Tensor) -> Tensor:
        """Return ``x``, the layer's input, where the layer is skipped, else its ``output``."""
        if self.idle:
            return output
        return torch.where(keep_mask((), self.live_rate, x.device), output, x)
