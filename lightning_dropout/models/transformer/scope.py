"""What the blocks of a Transformer share in one forward pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Context", "Scope", "attention_mask"]


@dataclass(frozen=True, eq=False)
class Context:
    """What a decoder attends to, ``(batch, keys, dim)``, and the mask of its keys."""

    tokens: Tensor
    mask: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Scope:
    """What each position may look at, and how far away it is.

    Not registered with torch's pytree on purpose: FSDP would cast the rotations to the dtype of the weights.
    """

    rotation: Tensor | None = None
    mask: Tensor | None = None
    is_causal: bool = False
    context: Context | None = None
    #: False where it is known that no dropout is active, to save the calls: they are a tenth of the time of a token.
    drops: bool = True


def attention_mask(key_mask: Tensor | None, *, is_causal: bool) -> Tensor | None:
    """Mask of shape ``(batch, 1, 1 or length, length)``, True where a query may look, from one of ``(batch, length)``.

    In causal order every position sees itself, even where it is padding: a softmax over nothing would be NaN.
    """
    if key_mask is None:
        return None
    if not is_causal:
        return key_mask[:, None, None, :]
    length = key_mask.shape[1]
    before = torch.ones(length, length, dtype=torch.bool, device=key_mask.device).tril(-1)
    itself = torch.eye(length, dtype=torch.bool, device=key_mask.device)
    return (before & key_mask[:, None, None, :]) | itself
