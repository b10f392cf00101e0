"""Token dropout: whole positions of a sequence are dropped."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lightning_dropout.layers.rate import LiveRate

__all__ = ["TokenDropout"]


class TokenDropout(LiveRate):
    """Drop positions of a sequence: patches of an encoder, keys of a decoder, tokens of a cross-attended context.

    Every sample keeps the same share of its positions, ``1 - rate`` rounded to a whole number, at random places. Its
    first ``num_prefix`` positions always stay: the class token of an encoder, and the first token of a causal decoder,
    whose query has no other key. At least one position stays, also at rate 1. Nothing is rescaled.

    ``how="remove"`` returns a shorter sequence in its old order, which saves computation (PatchDropout, Liu et al.
    2022). That is for eager code: a length that follows a live rate would compile a graph per length, so compiled code
    masks the keys instead, at full cost. To the positions that stay the two are the same, provided that attention and
    pooling respect the mask and that positions were encoded beforehand. With rotary positions, and in decoders, use
    ``how="mask"``, which always masks.

    Example:
        >>> x, key_mask = TokenDropout(0.5)(torch.randn(2, 9, 4))
        >>> x.shape, key_mask
        (torch.Size([2, 5, 4]), None)
        >>> x, key_mask = TokenDropout(0.5, how="mask")(torch.randn(2, 9, 4))
        >>> x.shape, key_mask.sum(dim=1)
        (torch.Size([2, 9, 4]), tensor([5, 5]))
    """

    kind = "token"

    def __init__(self, rate: float, *, num_prefix: int = 1, how: Literal["remove", "mask"] = "remove") -> None:
        super().__init__(rate)
        if num_prefix < 0:
            raise ValueError(
                f"TokenDropout(num_prefix={num_prefix}) is negative. Give the number of positions to keep."
            )
        if how not in ("remove", "mask"):
            raise ValueError(f"TokenDropout(how={how!r}) is unknown. Give 'remove' or 'mask'.")
        self.num_prefix, self.how = num_prefix, how

    def forward(self, x: Tensor, key_mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the sequence and the mask of the keys that may be attended to and pooled over.

        ``x`` is ``(batch, length, dim)``. ``key_mask`` is ``(batch, length)``, True where a position is no padding;
        None stands for all of them, going in and coming out.
        """
        if self.idle:
            return x, key_mask
        batch, length, _ = x.shape
        valid = torch.ones(batch, length, dtype=torch.bool, device=x.device) if key_mask is None else key_mask
        num_valid = valid.sum(dim=1, keepdim=True)
        draws = torch.rand(batch, length, device=x.device)
        draws = draws.masked_fill(valid.cumsum(dim=1) <= self.num_prefix, 2.0).masked_fill(~valid, -1.0)
        if self.how == "mask" or torch.compiler.is_compiling():
            ranks = draws.argsort(dim=1, descending=True).argsort(dim=1)
            return x, valid & (ranks < self._num_kept(num_valid))
        num_kept = int(self._num_kept(torch.tensor(length)))
        order = draws.argsort(dim=1, descending=True)[:, :num_kept]
        if key_mask is not None:
            key_mask = key_mask.gather(1, order) & (torch.arange(num_kept, device=x.device) < self._num_kept(num_valid))
        places, order = order.sort(dim=1)
        shorter = x.gather(1, places.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
        return shorter, key_mask if key_mask is None else key_mask.gather(1, order)

    def _num_kept(self, num_valid: Tensor) -> Tensor:
        num_droppable = (num_valid - self.num_prefix).clamp(min=0)
        num_dropped = (num_droppable * self.live_rate).round().to(num_valid.dtype)
        return (num_valid - num_dropped).clamp(min=1)

    def extra_repr(self) -> str:
        """Rate, prefix and form."""
        return f"{super().extra_repr()}, num_prefix={self.num_prefix}, how={self.how}"
