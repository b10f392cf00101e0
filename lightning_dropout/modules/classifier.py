"""The LightningModule for classification."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError

from lightning_dropout.modules.mixup import mixup
from lightning_dropout.modules.network_module import Batch, NetworkModule
from lightning_dropout.modules.r_drop import symmetric_kl

__all__ = ["Classifier"]


class Classifier(NetworkModule):
    """Train any network that maps a batch to logits ``(batch, num_classes)``.

    Batches are ``(inputs, targets)``, the targets class indices ``(batch,)``. Logs ``train_loss`` every step, and
    ``val_loss``, the bare cross-entropy, and ``val_accuracy`` every validation; the same for ``test``.

    Args:
        network: Inputs to logits, ours or another's.
        num_classes: Number of classes, 2 for a binary question.
        label_smoothing: Share of every target that is spread over all classes, in training only.
        mixup: Strength of mixup, the ``alpha`` of its Beta distribution, in training only; 0 is none. Inputs have to
            be floating point: images, tables.
        calibration: Log ``val_calibration_error`` as well, the expected calibration error (15 bins). It keeps the
            confidence of every sample until the end of the epoch.
        **settings: The settings of ``NetworkModule``: ``lr``, ``weight_decay``, ``r_drop``, ``compile``, ...

    Raises:
        ValueError: If a setting is out of range, or if the network returns another number of classes.

    Example:
        >>> import torch
        >>> model = Classifier(nn.Linear(64, 10), num_classes=10, label_smoothing=0.1, lr=1e-2)
        >>> model.loss(torch.zeros(2, 10), torch.tensor([3, 7]))
        tensor(2.3026)
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        num_classes: int,
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
        calibration: bool = False,
        **settings: Any,
    ) -> None:
        if not 0.0 <= label_smoothing < 1.0 or not mixup >= 0.0:
            raise ValueError(
                f"Classifier(label_smoothing={label_smoothing}, mixup={mixup}) makes no sense. Give label_smoothing in "
                "[0, 1) and mixup from 0."
            )
        metrics = MetricCollection({"accuracy": MulticlassAccuracy(num_classes, average="micro")})
        if calibration:
            metrics.add_metrics({"calibration_error": MulticlassCalibrationError(num_classes)})
        super().__init__(network, metrics, **settings)
        self.num_classes, self.label_smoothing, self.mixup = num_classes, label_smoothing, mixup

    def augment(self, inputs: Tensor, targets: Tensor) -> Batch:
        """Mixup, if asked for."""
        if not self.mixup:
            return inputs, targets
        return mixup(inputs, targets, num_classes=self.num_classes, alpha=self.mixup)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy, in nats."""
        return self.cross_entropy(outputs, targets, label_smoothing=0.0)

    def training_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy against smoothed labels, in nats."""
        return self.cross_entropy(outputs, targets, label_smoothing=self.label_smoothing)

    def cross_entropy(self, outputs: Tensor, targets: Tensor, *, label_smoothing: float) -> Tensor:
        """Cross-entropy in fp32 whatever the precision of the network."""
        if outputs.shape[1:] != (self.num_classes,):
            raise ValueError(
                f"Classifier(num_classes={self.num_classes}) got outputs of shape {tuple(outputs.shape)}. "
                f"Give a network that returns (batch, {self.num_classes}), or change num_classes=."
            )
        return F.cross_entropy(outputs.float(), targets, label_smoothing=label_smoothing)

    def disagreement(self, first: Tensor, second: Tensor, targets: Tensor) -> Tensor:
        """Mean divergence of the two predictions."""
        return symmetric_kl(first.float(), second.float()).mean()
