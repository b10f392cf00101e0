"""What dropout costs on the data that is being trained on."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from lightning_dropout.metrics.difference import DifferenceMetric

__all__ = ["DropoutNoise"]


class DropoutNoise(DifferenceMetric):
    """A metric in train mode minus the same metric in eval mode, both on the same training batches.

    It is what dropout costs right now, in the units of the metric: a loss is higher with dropout, so its noise is
    positive; that of an accuracy is negative. A training loss that is logged as usual is too high by this much.

    Args:
        metric: Any torchmetrics metric.
        **kwargs: Keyword arguments of every ``torchmetrics.Metric``.

    Example:
        >>> import torch
        >>> from torchmetrics import MeanSquaredError
        >>> model = torch.nn.Dropout(1.0)
        >>> x = torch.ones(4)
        >>> noise = DropoutNoise(MeanSquaredError())
        >>> noise.update(model.train()(x), x, mode="train")
        >>> noise.update(model.eval()(x), x, mode="eval")
        >>> noise.compute()
        tensor(1.)
    """

    conditions = ("train", "eval")

    def update(self, *args: Any, mode: Literal["train", "eval"], **kwargs: Any) -> None:
        """Add a batch that ran in one mode; ``args`` and ``kwargs`` are those of the wrapped metric."""
        self._part("mode", mode).update(*args, **kwargs)

    def forward(self, *args: Any, mode: Literal["train", "eval"], **kwargs: Any) -> Any:
        """Add a batch that ran in one mode and return the wrapped metric's value for it."""
        return self._part("mode", mode)(*args, **kwargs)

    def compute(self) -> Tensor:
        """Train mode minus eval mode, over everything seen on all ranks."""
        noise: Tensor = self.first.compute() - self.second.compute()
        return noise
