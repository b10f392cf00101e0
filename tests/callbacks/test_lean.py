from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.profilers import SimpleProfiler
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_dropout.callbacks import (
    AdaptiveDropout,
    DropoutScheduler,
    DropoutSummary,
    ModeGuard,
    OverfittingMonitor,
    RankSeed,
)

BATCH_HOOKS = {
    *("on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward"),
    *("on_before_optimizer_step", "on_train_batch_end", "on_validation_batch_start", "on_validation_batch_end"),
}


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.mse_loss(self.layers(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.fixture
def fit(tmp_path: Any) -> Callable[..., Trainer]:
    def run(*callbacks: Any, **options: Any) -> Trainer:
        trainer = Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
            callbacks=list(callbacks),
            **options,
        )
        data = DataLoader(TensorDataset(torch.randn(8, 4), torch.randn(8, 1)), 2)
        trainer.fit(Net(), data, data)
        return trainer

    return run


CALLBACKS: dict[str, Callable[[], Any]] = {
    "AdaptiveDropout": AdaptiveDropout,
    "DropoutScheduler": lambda: DropoutScheduler(0.3),
    "DropoutSummary": DropoutSummary,
    "ModeGuard": ModeGuard,
    "OverfittingMonitor": lambda: OverfittingMonitor(plot=False),
    "RankSeed": lambda: RankSeed(0),
}


@pytest.mark.parametrize("name", CALLBACKS)
def test_only_hooks_that_do_something_are_called_in_a_step(fit: Callable[..., Trainer], name: str) -> None:
    callback = CALLBACKS[name]()
    others = [OverfittingMonitor(plot=False)] if name == "AdaptiveDropout" else []
    profiler = SimpleProfiler()
    fit(callback, *others, profiler=profiler)
    prefix = f"[Callback]{callback.state_key}."
    called = {action.removeprefix(prefix) for action in profiler.recorded_durations if action.startswith(prefix)}
    assert called & BATCH_HOOKS == vars(type(callback)).keys() & BATCH_HOOKS
    assert "on_fit_start" in called


def test_a_subclass_may_add_a_hook_and_call_the_one_above_it(fit: Callable[..., Trainer]) -> None:
    class Counting(DropoutScheduler):
        num_calls = 0

        def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
            super().on_after_backward(trainer, pl_module)
            self.num_calls += 1

    counting = Counting(0.3)
    fit(counting)
    assert counting.num_calls == 4


def test_hooks_of_others_are_called_in_every_batch(fit: Callable[..., Trainer]) -> None:
    calls: list[str] = []

    class Guard(ModeGuard):
        def on_train_batch_start(self, *arguments: Any) -> None:
            calls.append("subclass")
            super().on_train_batch_start(*arguments)

    class Monitor(OverfittingMonitor):
        def on_train_batch_end(self, *arguments: Any) -> None:
            calls.append("another")
            super().on_train_batch_end(*arguments)

    seed = RankSeed(0)
    seed.on_before_zero_grad = lambda *_: calls.append("instance")  # type: ignore[method-assign]
    fit(Guard(), Monitor(plot=False), seed)
    assert {name: calls.count(name) for name in calls} == {"subclass": 4, "another": 4, "instance": 4}


def test_a_guard_that_was_used_looks_again_in_its_next_fit(fit: Callable[..., Trainer]) -> None:
    guard = ModeGuard()
    for _ in range(2):
        trainer = fit(guard)
        assert trainer.callbacks[0]._firing.num_batches == 2
