"""One parameter of ours and the tensors of a checkpoint that hold the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

__all__ = ["Link", "one_to_one", "stacked", "transposed"]


@dataclass(frozen=True)
class Link:
    """Joins ``theirs`` into ``ours`` when a checkpoint is read, and splits them again when it is written."""

    ours: str
    theirs: tuple[str, ...]
    join: Callable[[list[Tensor]], Tensor]
    split: Callable[[Tensor], Sequence[Tensor]]


def one_to_one(ours: str, theirs: str) -> Link:
    """The same tensor under another name."""
    return Link(ours, (theirs,), join=lambda tensors: tensors[0], split=lambda tensor: (tensor,))


def transposed(ours: str, theirs: str) -> Link:
    """A matrix that the checkpoint keeps as ``(in, out)``."""
    return Link(ours, (theirs,), join=lambda tensors: tensors[0].T, split=lambda tensor: (tensor.T,))


def stacked(ours: str, theirs: Sequence[str], sizes: Sequence[int]) -> Link:
    """Several tensors, stacked along their first dimension, where they have ``sizes``."""
    return Link(ours, tuple(theirs), join=torch.cat, split=partial(torch.split, split_size_or_sections=list(sizes)))
