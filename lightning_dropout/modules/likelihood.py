"""Two readings of the mean cross-entropy of a language model."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchmetrics import Metric

__all__ = ["BitsPerToken", "Perplexity"]


class _MeanLoss(Metric):
    full_state_update = False
    higher_is_better = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, loss: Tensor | float, num_targets: Tensor | int) -> None:
        """Add a batch with the mean ``loss``, in nats, over ``num_targets`` targets."""
        self.total += loss * num_targets
        self.count += num_targets

    def compute(self) -> Tensor:
        """Mean loss over everything seen, in nats."""
        return self.total / self.count


class Perplexity(_MeanLoss):
    """Exponential of the mean cross-entropy.

    ``torchmetrics.text.Perplexity`` gives the same figure from the logits, at the price of a second softmax over the
    vocabulary, and gives infinity once a probability underflows. This one takes the loss, which is there already.

    Example:
        >>> metric = Perplexity()
        >>> metric.update(math.log(8), num_targets=100)
        >>> metric.compute()
        tensor(8.)
    """

    def compute(self) -> Tensor:
        """Perplexity over everything seen."""
        return super().compute().exp()


class BitsPerToken(_MeanLoss):
    """Mean cross-entropy in bits; with a character vocabulary these are bits per character.

    Example:
        >>> metric = BitsPerToken()
        >>> metric.update(math.log(8), num_targets=100)
        >>> metric.compute()
        tensor(3.)
    """

    def compute(self) -> Tensor:
        """Bits over everything seen."""
        return super().compute() / math.log(2)
