"""The scheduler under strategies, averaging callbacks and compiled parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging
from lightning.pytorch.demos.boring_classes import BoringModel
from torch import Tensor, nn

from lightning_dropout.callbacks import DropoutScheduler, ModeGuard
from lightning_dropout.layers import Dropout
from lightning_dropout.schedules import Linear
from lightning_dropout.sites import find_sites

SCRIPT = """
import sys
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.fsdp import fully_shard
from lightning_dropout.callbacks import DropoutScheduler, ModeGuard
from lightning_dropout.layers import Dropout
from lightning_dropout.schedules import Linear
from lightning_dropout.sites import find_sites

strategy = sys.argv[1]

class Model(BoringModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(32, 32), Dropout(0.1), nn.Linear(32, 2), nn.Dropout(0.2))

    def configure_model(self):
        if strategy == "fsdp2":
            fully_shard(self.layer[0], mesh=self.device_mesh["data_parallel"])
            fully_shard(self.layer, mesh=self.device_mesh["data_parallel"])

class Recorder(Callback):
    rates = []
    def on_train_batch_end(self, trainer, pl_module, *args):
        self.rates.append(find_sites(pl_module).rates())

trainer = Trainer(
    accelerator="cpu", devices=2, max_epochs=1, limit_train_batches=4, limit_val_batches=1, logger=False,
    enable_checkpointing=False, enable_progress_bar=False,
    strategy="ddp" if strategy == "ddp" else ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1),
    callbacks=[DropoutScheduler(Linear(0.0, 0.8)), guard := ModeGuard(), recorder := Recorder()],
)
trainer.fit(Model())
result = {"rates": recorder.rates, "findings": guard.findings}
"""


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes_have_the_same_rates(strategy: str, run_ranks: Callable[..., Any]) -> None:
    first, second = run_ranks(SCRIPT, strategy)
    assert first == second
    assert first["findings"] == []
    assert [rates["layer.3"] for rates in first["rates"]] == pytest.approx([0.0, 0.2, 0.4, 0.6])


class Block(nn.Module):
    def __init__(self, width: int, dropout: nn.Module) -> None:
        super().__init__()
        self.linear = nn.Linear(32, width)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.linear(x))


class Model(BoringModel):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(Block(32, Dropout(0.1)), Block(2, nn.Dropout(0.2)))


class Recorder(Callback):
    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        rates = set(find_sites(pl_module).rates().values())
        assert len(rates) == 1
        self.rates += rates


def fit(model: LightningModule, *callbacks: Callback) -> list[float]:
    recorder = Recorder()
    Trainer(
        accelerator="cpu",
        max_epochs=2,
        limit_train_batches=4,
        limit_val_batches=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[DropoutScheduler(Linear(0.0, 0.8)), ModeGuard("raise"), *callbacks, recorder],
    ).fit(model)
    return recorder.rates


EXPECTED = pytest.approx([0.1 * i for i in range(8)])


@pytest.mark.parametrize("averaging", [EMAWeightAveraging, lambda: StochasticWeightAveraging(swa_lrs=1e-2)])
def test_averaging_weights_leaves_the_rates_alone(averaging: Any) -> None:
    model = Model()
    assert fit(model, averaging()) == EXPECTED
    assert find_sites(model).rates() == {"layer.0.dropout": 0.1, "layer.1.dropout": 0.2}


def whole(model: Model) -> Model:
    model.compile(backend="aot_eager")
    return model


def submodule(model: Model) -> Model:
    model.layer = torch.compile(model.layer, backend="aot_eager")
    return model


def layers(model: Model) -> Model:
    for layer in model.layer:
        layer.compile(backend="aot_eager")
    return model


@pytest.mark.parametrize("compiled", [whole, submodule, layers])
def test_a_compiled_model_has_no_graph_more_than_with_constant_rates(compiled: Any) -> None:
    graphs = []
    for callbacks in ([], [DropoutScheduler(Linear(0.0, 0.8))]):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        Trainer(
            accelerator="cpu",
            max_epochs=2,
            limit_train_batches=10,
            limit_val_batches=2,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            callbacks=callbacks,
        ).fit(compiled(Model()))
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert 0 < graphs[1] <= graphs[0]


def test_a_lightning_module_compiled_before_the_trainer_sees_it() -> None:
    torch._dynamo.reset()
    assert fit(torch.compile(Model(), backend="aot_eager")) == EXPECTED
