"""Values are the same on all ranks, and as on one process. ddp runs a script: it would run pytest again on rank 1."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """
import sys, warnings
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import Accuracy
from lightning_dropout.callbacks import OverfittingMonitor

warnings.filterwarnings("ignore")
strategy, folder = sys.argv[1:]
devices = 1 if strategy == "auto" else 2
sharded = ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1)


class Model(LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.7), nn.Linear(8, 2))
        self.accuracy = Accuracy("multiclass", num_classes=2)
        self.outputs = []

    def configure_model(self):
        if self.device_mesh is not None:
            fully_shard(self.net, mesh=self.device_mesh["data_parallel"])

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        logits = self.net(batch[0])
        loss = F.cross_entropy(logits, batch[1])
        self.accuracy(logits, batch[1])
        self.outputs.append(self.all_gather(loss).mean())
        self.log("val_acc", self.accuracy)
        self.log("val_loss", loss)
        self.log("val_synced", loss, sync_dist=True)
        self.log("val_total", F.cross_entropy(logits, batch[1], reduction="sum"), reduce_fx="sum")
        self.log("val_worst", F.cross_entropy(logits, batch[1], reduction="none").max(), reduce_fx="max")

    def on_validation_epoch_end(self):
        self.log("val_gathered", torch.stack(self.outputs).mean())
        self.outputs.clear()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)  # one process and two take different steps otherwise


x = torch.randn(90, 4, generator=torch.Generator().manual_seed(1))
data = TensorDataset(x, (x[:, 0] > 0).long())
train, val = torch.utils.data.random_split(data, [50, 40], torch.Generator().manual_seed(2))
monitor = OverfittingMonitor(4)
trainer = Trainer(
    accelerator="cpu", devices=devices, strategy=sharded if strategy == "fsdp2" else strategy, max_epochs=2,
    logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    default_root_dir=folder, callbacks=[monitor, EarlyStopping("overfit/gap_loss", patience=9)],
)
trainer.fit(Model(), DataLoader(train, batch_size=5, shuffle=True), DataLoader(val, batch_size=5))
logged = {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("overfit/")}
result = monitor.history[-1].values, logged
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """What one process measures."""
    namespace: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["script.py", "auto", str(tmp_path_factory.mktemp("alone"))])
        exec(SCRIPT, namespace)
    values: dict[str, float] = namespace["result"][0]
    return values


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes_report_what_one_does(
    strategy: str, alone: dict[str, float], run_ranks: Callable[..., Any], tmp_path: Path
) -> None:
    first, second = run_ranks(SCRIPT, strategy, str(tmp_path))
    assert first == second
    values, logged = first
    metrics = ("loss", "acc", "synced", "total", "worst", "gathered")
    kinds = ("train", "val", "gap", "slope", "dropout_noise")
    assert set(values) == {f"overfit/{kind}_{metric}" for metric in metrics for kind in kinds} | {"overfit/state"}
    assert values["overfit/dropout_noise_loss"] > 0.0
    assert values == pytest.approx(alone, rel=1e-6, abs=1e-7)
    assert logged == pytest.approx(values, rel=1e-6, abs=1e-7)
    assert (tmp_path / "overfitting.png").exists()
    assert (tmp_path / "report.html").exists()
