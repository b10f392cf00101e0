"""Masks follow the data: the same on tensor-parallel replicas, which share a batch, different on sharded data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

SCRIPT = """
import sys
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from lightning_dropout.callbacks import DropoutScheduler, ModeGuard, OverfittingMonitor, RankSeed
from lightning_dropout.layers import Dropout
from lightning_dropout.schedules import Linear
from lightning_dropout.sites import find_sites

data_size, tensor_size = map(int, sys.argv[1:])


class Model(BoringModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(
            nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 16), Dropout(0.3),
            nn.Linear(16, 8), nn.Dropout(0.3), nn.Linear(8, 2),
        )

    def configure_model(self):
        if tensor_size > 1:
            parallelize_module(
                self.layer, self.device_mesh["tensor_parallel"], {"0": ColwiseParallel(), "2": RowwiseParallel()}
            )
        if data_size > 1:
            fully_shard(self.layer, mesh=self.device_mesh["data_parallel"])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", super().validation_step(batch, batch_idx)["x"], sync_dist=True)


class Recorder(Callback):
    def on_fit_start(self, trainer, pl_module):
        self.batches, self.masks, self.rates = [], [], []
        for site in find_sites(pl_module):
            site.module.register_forward_hook(self.record)

    def record(self, module, inputs, output):
        if torch.is_grad_enabled():  # not where the monitor measures the noise of dropout
            self.masks.append((output == 0).int().tolist())

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.batches.append(batch.sum().item())
        self.rates.append(find_sites(pl_module).rates())


seed_everything(1)
trainer = Trainer(
    accelerator="cpu", devices=2, max_epochs=1, limit_train_batches=4, limit_val_batches=2, logger=False,
    strategy=ModelParallelStrategy(data_parallel_size=data_size, tensor_parallel_size=tensor_size),
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, callbacks=[
        RankSeed(), guard := ModeGuard("raise"), OverfittingMonitor(2, plot=False),
        DropoutScheduler(Linear(0.2, 0.8)), recorder := Recorder(),
    ],
)
trainer.fit(Model())
gap = trainer.callback_metrics["overfit/gap_loss"].item()
result = recorder.batches, recorder.masks, recorder.rates, guard.findings, gap
"""


@pytest.mark.parametrize(("data_size", "tensor_size"), [(2, 1), (1, 2)], ids=["fsdp2", "tensor parallel"])
def test_masks_follow_the_data(data_size: int, tensor_size: int, run_ranks: Callable[..., Any]) -> None:
    first, second = run_ranks(SCRIPT, str(data_size), str(tensor_size))
    (batches, masks, *agreed), (other_batches, other_masks, *also_agreed) = first, second
    assert agreed == also_agreed
    rates, findings, _ = agreed
    assert [list(each.values()) for each in rates] == [[pytest.approx(0.2 + 0.15 * i)] * 2 for i in range(4)]
    assert findings == []
    assert len(masks) == len(other_masks) == 2 * 4
    if tensor_size == 2:
        assert batches == other_batches
        assert masks == other_masks
        assert all(masks[i] != masks[i + 2] for i in range(6))
    else:
        assert batches != other_batches
        assert all(mine != theirs for mine, theirs in zip(masks, other_masks, strict=True))
