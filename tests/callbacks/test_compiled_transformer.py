"""The package's own Transformer, compiled, under a schedule, in a real trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

import lightning_dropout as ld
from lightning_dropout.callbacks import DropoutScheduler, default_callbacks
from lightning_dropout.schedules import Constant, Linear


class Losses(Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any) -> None:
        self.values.append(outputs["loss"].item())


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


def losses(tmp_path: Path, *callbacks: Callback, backend: str = "aot_eager") -> list[float]:
    text = tmp_path / "text.txt"
    text.write_text("It was the best of times, it was the worst of times. " * 40)
    data = ld.TextData(str(text), context_length=16, batch_size=4)
    torch.manual_seed(0)
    network = ld.Transformer(data.vocab_size, num_layers=2, num_heads=2, dim=16, context_length=16)
    network.compile(backend=backend, fullgraph=True)
    recorder = Losses()
    Trainer(
        accelerator="cpu",
        max_epochs=2,
        limit_train_batches=10,
        val_check_interval=5,
        limit_val_batches=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=[recorder, *callbacks],
    ).fit(ld.LanguageModel(network, lr=1e-3), data)
    return recorder.values


def test_a_rate_for_every_step_compiles_one_graph_to_train_and_one_to_evaluate(tmp_path: Path) -> None:
    values = losses(tmp_path, DropoutScheduler(Linear(0.0, 0.8)), *default_callbacks())
    assert len(values) == 20
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2
    assert not torch._dynamo.utils.counters["graph_break"]


def test_a_constant_schedule_gives_the_losses_of_no_schedule_bit_for_bit(tmp_path: Path) -> None:
    without = losses(tmp_path)
    assert losses(tmp_path, DropoutScheduler(Constant(0.1))) == without
    assert losses(tmp_path, DropoutScheduler(Constant(0.2))) != without
