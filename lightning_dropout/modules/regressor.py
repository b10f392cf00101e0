"""The LightningModule for regression."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError, R2Score

from lightning_dropout.modules.network_module import NetworkModule

__all__ = ["Regressor"]

_CRITERIA: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}


class Regressor(NetworkModule):
    """Train any network that maps a batch to numbers, ``(batch,)`` or ``(batch, num_targets)``.

    Outputs ``(batch, 1)`` for targets ``(batch,)`` are the same thing here, never a broadcast. Logs ``train_loss``
    every step, and ``val_loss``, ``val_mse``, ``val_mae`` and ``val_r2`` every validation; the same for ``test``.

    R-Drop, which compares distributions, becomes the criterion between the two outputs: for the squared error that is
    the divergence of two Gaussians in the units of the loss.

    Args:
        network: Inputs to numbers, ours or another's.
        criterion: The loss: squared error, absolute error, or Huber's with its bend at 1.
        **settings: The settings of ``NetworkModule``: ``lr``, ``weight_decay``, ``r_drop``, ``compile``, ...

    Raises:
        ValueError: If ``criterion`` is unknown, or if outputs and targets differ in shape.

    Example:
        >>> import torch
        >>> model = Regressor(nn.Linear(10, 1), criterion="mae", lr=1e-2)
        >>> model.loss(torch.ones(4, 1), torch.zeros(4))
        tensor(1.)
    """

    def __init__(
        self, network: nn.Module, *, criterion: Literal["mse", "mae", "huber"] = "mse", **settings: Any
    ) -> None:
        if criterion not in _CRITERIA:
            raise ValueError(f"Regressor(criterion={criterion!r}) is unknown. Give one of {', '.join(_CRITERIA)}.")
        metrics = MetricCollection({"mse": MeanSquaredError(), "mae": MeanAbsoluteError(), "r2": R2Score()})
        super().__init__(network, metrics, **settings)
        self.criterion = _CRITERIA[criterion]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean error, in fp32 whatever the precision of the network."""
        return self.criterion(_match(outputs, targets).float(), targets.float())

    def disagreement(self, first: Tensor, second: Tensor, targets: Tensor) -> Tensor:
        """Mean error of one output against the other."""
        return self.criterion(first.float(), second.float())

    def measure(self, metrics: MetricCollection, outputs: Tensor, targets: Tensor, loss: Tensor) -> None:
        """Update ``metrics`` with outputs in the shape of the targets."""
        metrics.update(_match(outputs, targets).float(), targets.float())


def _match(outputs: Tensor, targets: Tensor) -> Tensor:
    if outputs.shape == targets.shape:
        return outputs
    if outputs.shape == (*targets.shape, 1) or (*outputs.shape, 1) == targets.shape:
        return outputs.view_as(targets)
    raise ValueError(
        f"Regressor got outputs of shape {tuple(outputs.shape)} for targets of shape {tuple(targets.shape)}. "
        "Give a network that returns one number per target."
    )
