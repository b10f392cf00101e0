from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.utils.data import DataLoader, TensorDataset

from lightning_dropout.callbacks import OverfittingMonitor
from lightning_dropout.layers import Dropout


class Model(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), Dropout(0.5), nn.Linear(8, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return F.mse_loss(self(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_loss", F.mse_loss(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def network(module: Model) -> Any:
    module.net = torch.compile(module.net, backend="eager")
    return module


def in_place(module: Model) -> Any:
    module.compile(backend="eager")
    return module


def method(module: Model) -> Any:
    module.forward = torch.compile(module.forward, backend="eager")  # type: ignore[method-assign]
    return module


def whole(module: Model) -> Any:
    return torch.compile(module, backend="eager")


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


class Logging(Callback):
    """Logs as much as the monitor: where all of a module is compiled, so is Lightning's log, once more for it."""

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.log_dict(dict.fromkeys("abc", 0.0))


def num_graphs(module: Any, callback: Callback) -> int:
    counters.clear()
    torch._dynamo.reset()
    data = TensorDataset(torch.randn(40, 4), torch.randn(40, 1))
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[callback],
    )
    trainer.fit(module, DataLoader(data, batch_size=10, shuffle=True), DataLoader(data, batch_size=8))
    return counters["stats"]["unique_graphs"]


@pytest.mark.parametrize("compiled", [network, in_place, method, whole])
def test_the_monitor_adds_no_graph(compiled: Callable[[Model], Any]) -> None:
    alone = num_graphs(compiled(Model()), Logging())
    monitor = OverfittingMonitor(plot=False)
    assert num_graphs(compiled(Model()), monitor) == alone > 0
    assert len(monitor.history) == 3
    # All samples are measured on both sides.
    values = monitor.history[-1].values
    assert values["overfit/train_loss"] == pytest.approx(values["overfit/val_loss"], rel=1e-5)
