from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_dropout.callbacks import OverfittingMonitor

X = torch.randn(40, 4, generator=torch.Generator().manual_seed(1))
DATA = TensorDataset(X, (X[:, 0] > 0).long())


class Model(LightningModule):
    def __init__(self, rate: float) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(rate))
        self.last = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        logits = self(batch[0])
        self.log("val_loss", F.cross_entropy(logits, batch[1]))
        self.log("val_acc", (logits.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(module: LightningModule, folder: Path, *, num_epochs: int = 3, **kwargs: Any) -> list[Any]:
    torch.manual_seed(0)
    monitor = OverfittingMonitor(4, plot=False, **kwargs)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=num_epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        callbacks=[monitor],
    )
    trainer.fit(module, DataLoader(DATA, batch_size=10, shuffle=True), DataLoader(DATA, batch_size=10))
    return [record.values for record in monitor.history]


def test_it_is_what_dropout_adds_to_a_metric_on_the_training_batches(tmp_path: Path) -> None:
    module = Model(rate=1.0)  # of which the outcome is known: all features are dropped
    values = fit(module, tmp_path)[-1]
    module.eval()
    x, y = DATA.tensors
    with torch.no_grad():
        losses = [F.cross_entropy(logits, y).item() for logits in (module.last.bias.expand(40, 2), module(x))]
        rights = [(logits.argmax(1) == y).float().mean() for logits in (module.last.bias.expand(40, 2), module(x))]
    assert values["overfit/dropout_noise_loss"] == pytest.approx(losses[0] - losses[1], rel=1e-5)
    assert values["overfit/dropout_noise_acc"] == pytest.approx(float(rights[0] - rights[1]), rel=1e-5)


def test_only_dropout_is_switched_on(tmp_path: Path) -> None:
    modes: list[tuple[bool, ...]] = []

    class Watched(Model):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            super().validation_step(batch, batch_idx)
            modes.append(tuple(part.training for part in (self, self.first, self.first[1], self.first[2])))

    fit(Watched(0.5), tmp_path, num_epochs=1)
    off, on = (False, False, False, False), (False, False, False, True)
    assert modes == [off] * 4 + [on] * 4 + [off] * 4


def test_masks_are_the_same_in_every_validation_and_after_a_restart(tmp_path: Path) -> None:
    class Frozen(Model):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.last.parameters(), lr=0.0)

    torch.manual_seed(0)
    module = Frozen(0.5)
    module.first[1].momentum = 0.0
    noises = [values["overfit/dropout_noise_loss"] for _ in range(2) for values in fit(module, tmp_path)]
    assert set(noises) == {noises[0]}
    assert noises[0] != 0.0
    assert fit(module, tmp_path, seed=1)[0]["overfit/dropout_noise_loss"] != noises[0]


def test_what_does_not_drop_in_training_makes_no_noise(tmp_path: Path) -> None:
    class InEval(Model):
        def on_train_epoch_start(self) -> None:
            self.first.eval()

    assert [values["overfit/dropout_noise_loss"] for values in fit(InEval(0.5), tmp_path)] == [0.0] * 3
    assert [values["overfit/dropout_noise_loss"] for values in fit(Model(0.0), tmp_path)] == [0.0] * 3


def test_without_sites_or_on_demand_there_is_none(tmp_path: Path) -> None:
    def is_noise(name: str) -> bool:
        return name.startswith("overfit/dropout_noise")

    module = Model(0.5)
    assert not any(map(is_noise, fit(module, tmp_path, dropout_noise=False)[-1]))
    module.first[2] = nn.Identity()
    assert not any(map(is_noise, fit(module, tmp_path)[-1]))


def test_a_step_that_fails_with_dropout_on_is_named_once(tmp_path: Path) -> None:
    class Strict(Model):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            if self.first[2].training:
                raise RuntimeError("dropout is on")
            super().validation_step(batch, batch_idx)

    with pytest.warns(UserWarning, match="OverfittingMonitor cannot run validation_step with dropout on") as warned:
        values = fit(Strict(0.5), tmp_path)
    assert sum("OverfittingMonitor" in str(w.message) for w in warned) == 1
    assert all("overfit/gap_loss" in each and "overfit/dropout_noise_loss" not in each for each in values)
