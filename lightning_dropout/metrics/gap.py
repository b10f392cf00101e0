"""The difference between a metric on training data and on validation data."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import torch.distributed
from torch import Tensor
from torchmetrics import CalibrationError, Metric

from lightning_dropout.metrics.difference import DifferenceMetric

__all__ = ["CalibrationGap", "GeneralizationGap", "generalization_gap"]

Number = TypeVar("Number", float, Tensor)


def generalization_gap(train: Number, val: Number, *, higher_is_better: bool = False) -> Number:
    """How much worse ``val`` is than ``train``: positive where a model overfits, in the units of the metric.

    Example:
        >>> generalization_gap(train=0.5, val=0.75)
        0.25
        >>> generalization_gap(train=1.0, val=0.75, higher_is_better=True)
        0.25
    """
    return train - val if higher_is_better else val - train


class GeneralizationGap(DifferenceMetric):
    """Any metric on validation data against the same metric on training data: positive where a model overfits.

    Measure both parts in eval mode: dropout makes a training loss look worse than it is, which hides the gap exactly
    where dropout is high. Calling the metric updates it and returns the wrapped metric's value for that batch alone.

    ``DistributedSampler`` repeats samples until all ranks have equally many, which biases what is reduced over them.
    Tell the true number of samples, and what a rank gets beyond its share of them is left out.

    Args:
        metric: Any torchmetrics metric; two copies of it are kept, each reduced over ranks in its own way.
        higher_is_better: Sign of the metric, where it does not know it itself.
        num_train_samples: Length of the training dataset, over all ranks.
        num_val_samples: Length of the validation dataset, over all ranks.
        **kwargs: Keyword arguments of every ``torchmetrics.Metric``.

    Raises:
        ValueError: If the sign of the metric is not known.

    Example:
        >>> from torch import tensor
        >>> from torchmetrics import MeanSquaredError
        >>> gap = GeneralizationGap(MeanSquaredError())
        >>> gap.update(tensor([1.0, 2.0]), tensor([1.0, 2.0]), split="train")
        >>> gap.update(tensor([1.0, 2.0]), tensor([2.0, 2.0]), split="val")
        >>> gap.compute()
        tensor(0.5000)
    """

    higher_is_better = False

    def __init__(
        self,
        metric: Metric,
        *,
        higher_is_better: bool | None = None,
        num_train_samples: int | None = None,
        num_val_samples: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(metric, **kwargs)
        sign = metric.higher_is_better if higher_is_better is None else higher_is_better
        if sign is None:
            raise ValueError(
                f"GeneralizationGap({type(metric).__name__}()) cannot tell overfitting from underfitting: the metric "
                "does not say whether higher is better. Pass higher_is_better=True or False."
            )
        self.metric_higher_is_better = sign
        self._num_samples = {"train": num_train_samples, "val": num_val_samples}
        self._num_seen = {"train": 0, "val": 0}

    def update(self, *args: Any, split: Literal["train", "val"], **kwargs: Any) -> None:
        """Add a batch of one split; ``args`` and ``kwargs`` are those of the wrapped metric."""
        part = self._part("split", split)
        args, kwargs = self._without_padding(split, args, kwargs)
        part.update(*args, **kwargs)

    def forward(self, *args: Any, split: Literal["train", "val"], **kwargs: Any) -> Any:
        """Add a batch of one split and return the wrapped metric's value for it."""
        part = self._part("split", split)
        args, kwargs = self._without_padding(split, args, kwargs)
        return part(*args, **kwargs)

    def compute(self) -> Tensor:
        """The gap over everything seen on all ranks."""
        train: Tensor = self.first.compute()
        val: Tensor = self.second.compute()
        return generalization_gap(train, val, higher_is_better=self.metric_higher_is_better)

    def reset(self) -> None:
        """Forget everything seen."""
        super().reset()
        self._num_seen = dict.fromkeys(self._num_seen, 0)

    def _without_padding(
        self, split: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        total = self._num_samples[split]
        if total is None:
            return args, kwargs
        sizes = [len(x) for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and x.dim() > 0]
        if not sizes:
            raise ValueError(
                f"GeneralizationGap(num_{split}_samples={total}) was updated with nothing that has a batch dimension, "
                f"so it cannot leave padding out. Pass tensors, or drop num_{split}_samples=."
            )
        num_left = max(self._share(total) - self._num_seen[split], 0)
        self._num_seen[split] += sizes[0]

        def cut(x: Any) -> Any:
            return x[:num_left] if isinstance(x, Tensor) and x.dim() > 0 else x

        return tuple(map(cut, args)), {name: cut(x) for name, x in kwargs.items()}

    def _share(self, num_samples: int) -> int:
        """How many samples this rank really has, as ``DistributedSampler`` deals them out."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return num_samples
        rank = torch.distributed.get_rank(self.process_group)
        return len(range(rank, num_samples, torch.distributed.get_world_size(self.process_group)))


class CalibrationGap(GeneralizationGap):
    """Calibration error on validation data minus that on training data.

    A network that overfits is sure of itself on new data, too. The expected calibration error is the mean difference
    between confidence and accuracy over ``num_bins`` bins (Guo et al. 2017). It keeps the confidence of every sample
    until it is reset. Predictions are logits or probabilities, ``(batch, num_classes)``.

    Args:
        task: ``"multiclass"``, or ``"binary"`` with one logit or probability per sample.
        num_classes: Number of classes of a multiclass task.
        num_bins: Number of bins of the confidence.
        norm: ``"l1"`` is the expected error, ``"l2"`` its root mean square, ``"max"`` the largest of all bins.
        **kwargs: The other arguments of ``GeneralizationGap``.

    Example:
        >>> from torch import tensor
        >>> gap = CalibrationGap(num_classes=2)
        >>> gap.update(tensor([[0.0, 1.0]]), tensor([1]), split="train")
        >>> gap.update(tensor([[0.0, 1.0]]), tensor([0]), split="val")
        >>> gap.compute()
        tensor(1.)
    """

    def __init__(
        self,
        *,
        task: Literal["binary", "multiclass"] = "multiclass",
        num_classes: int | None = None,
        num_bins: int = 15,
        norm: Literal["l1", "l2", "max"] = "l1",
        **kwargs: Any,
    ) -> None:
        error = CalibrationError(task=task, num_classes=num_classes, n_bins=num_bins, norm=norm)
        super().__init__(error, **kwargs)
