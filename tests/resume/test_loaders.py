"""Loaders that go on where they were, whoever made them and whatever reads for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.demos.boring_classes import BoringModel
from torch import nn
from torch.utils.data import DataLoader

from lightning_dropout.callbacks import DropoutScheduler, RankSeed
from lightning_dropout.schedules import Linear
from tests.resume.test_kills import savers
from tests.resume.tiny_run import KillAt, fit, last_checkpoint


class Reader(BoringModel):
    """Notes what it reads."""

    def __init__(self, *, counts_steps: bool = False) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(1, 2), nn.Dropout(0.1))
        self.counts_steps = counts_steps
        self.seen: list[Any] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.seen.append(batch.flatten().tolist())
        return self.layer(batch).sum()

    def configure_optimizers(self) -> Any:
        if self.counts_steps:  # which makes the loaders, before the checkpoint is read
            assert self.trainer.estimated_stepping_batches > 0
        return torch.optim.SGD(self.parameters(), 0.1)


class Stateful(DataLoader[Any]):
    """As loaders of other packages are: an iterator begins where the state said when it was made."""

    position = 0

    def __iter__(self) -> Any:
        self.iterator = iter(list(super().__iter__())[self.position :])
        self.position = 0
        return self

    def __next__(self) -> Any:
        batch = next(self.iterator)
        self.position += 1
        return batch

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position = state["position"]


class SaveAt(Callback):
    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path, weights_only=False)


def train(module: Reader, loader: Any, *callbacks: Callback, ckpt_path: Path | None = None, **settings: Any) -> Any:
    Trainer(
        **{"max_epochs": 1, "limit_val_batches": 0, **settings},
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    ).fit(module, loader, ckpt_path=ckpt_path, weights_only=True)
    return module.seen


@pytest.mark.parametrize("counts_steps", [False, True])
def test_a_loader_gets_its_state_also_where_it_was_made_early(counts_steps: bool, tmp_path: Path) -> None:
    """Callbacks that need the length of the fit do not take the state away; RankSeed gives it where modules do."""

    def callbacks() -> list[Callback]:
        return [DropoutScheduler(Linear(0.0, 0.5)), *([RankSeed(0)] if counts_steps else [])]

    def run(*more: Callback, **settings: Any) -> Any:
        loader = Stateful(torch.arange(6.0).view(6, 1))
        return train(Reader(counts_steps=counts_steps), loader, *callbacks(), *more, **settings)

    whole = run(SaveAt(2, tmp_path / "2.ckpt"))
    assert run(ckpt_path=tmp_path / "2.ckpt") == whole[2:]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_foreign_shuffling_depends_on_seed_and_epoch_alone(num_workers: int) -> None:
    orders = []
    for draws in (0, 3):
        seed_everything(1, verbose=False)
        loader = DataLoader(torch.arange(6.0).view(6, 1), shuffle=True, num_workers=num_workers)
        torch.rand(draws)
        orders.append(train(Reader(), loader, RankSeed(0), max_epochs=2))
    assert orders[0] == orders[1]
    assert sorted(orders[0][:6]) == sorted(orders[0][6:]) != orders[0][:6] != orders[0][6:]


def test_workers_that_read_ahead_change_nothing(tmp_path: Path) -> None:
    settings = {"num_workers": 1, "max_epochs": 2}
    whole = fit(tmp_path, **settings)
    fit(tmp_path, *savers(tmp_path), KillAt(3), **settings)
    with pytest.warns(UserWarning, match="Checkpoint directory .* exists and is not empty"):
        resumed = fit(tmp_path, *savers(tmp_path), ckpt_path=last_checkpoint(tmp_path), **settings)
    assert resumed.continues(whole)
    assert len(resumed.steps) == len(whole.steps) - 3
