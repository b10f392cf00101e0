"""Whatever data a fit has, what is measured is what an evaluation of the same samples gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from lightning_dropout.callbacks import OverfittingMonitor

X = torch.randn(60, 4, generator=torch.Generator().manual_seed(1))
Y = (X[:, 0] > 0).long()
TRAIN, VAL, MORE = range(24), range(24, 44), range(44, 60)


class Pair(NamedTuple):
    x: Tensor
    y: Tensor


class Stream(IterableDataset[Any]):
    def __init__(self, samples: list[Any]) -> None:
        self.samples = samples

    def __iter__(self) -> Iterator[Any]:
        return iter(self.samples)


FORMS: dict[str, Any] = {
    "tuple": lambda i: (X[i], Y[i]),
    "named tuple": lambda i: Pair(X[i], Y[i]),
    "dict": lambda i: {"x": X[i], "y": Y[i]},
    "nested": lambda i: {"inputs": {"x": X[i]}, "targets": [Y[i]], "name": "sample"},
}


def read(batch: Any) -> tuple[Tensor, Tensor]:
    if isinstance(batch, dict):
        return (batch["x"], batch["y"]) if "x" in batch else (batch["inputs"].pop("x"), batch["targets"][0])
    return batch[0], batch[1]


class Model(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 2))

    def loss(self, batch: Any) -> Tensor:
        x, y = read(batch)
        return F.cross_entropy(self.net(x), y)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("val_loss", self.loss(batch), batch_size=len(read(batch)[1]) if isinstance(batch, tuple) else None)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def evaluate(self, indices: range) -> float:
        self.net.eval()
        with torch.no_grad():
            return F.cross_entropy(self.net(X[indices]), Y[indices]).item()


def fit(module: LightningModule, train: Any, val: Any, folder: Path) -> Any:
    monitor = OverfittingMonitor(6, plot=False)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[monitor],
    )
    trainer.fit(module, train, val)
    return monitor.history[-1].values


def samples(form: str, indices: range) -> list[Any]:
    return [FORMS[form](i) for i in indices]


@pytest.mark.parametrize("form", ["tuple", "named tuple", "dict"])
@pytest.mark.parametrize("kind", [list, Stream])
def test_batches_of_any_form_from_any_dataset(form: str, kind: Any, tmp_path: Path) -> None:
    module = Model()
    train, val = (DataLoader(kind(samples(form, part)), batch_size=4) for part in (TRAIN, VAL))
    values = fit(module, train, val, tmp_path)
    assert values["overfit/train_loss"] == pytest.approx(module.evaluate(TRAIN), rel=1e-5)
    assert values["overfit/val_loss"] == pytest.approx(module.evaluate(VAL), rel=1e-5)
    assert values["overfit/dropout_noise_loss"] != 0.0


@pytest.mark.parametrize("kind", [list, Stream])
def test_a_step_may_take_from_its_batch(kind: Any, tmp_path: Path) -> None:
    class Sized(Model):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self.log("val_loss", self.loss(batch), batch_size=4)

    module = Sized()
    train, val = (DataLoader(kind(samples("nested", part)), batch_size=4) for part in (TRAIN, VAL))
    values = fit(module, train, val, tmp_path)
    assert values["overfit/train_loss"] == pytest.approx(module.evaluate(TRAIN), rel=1e-5)


def test_several_validation_loaders_each_have_a_gap(tmp_path: Path) -> None:
    module = Model()
    train, val, more = (DataLoader(samples("tuple", part), batch_size=4) for part in (TRAIN, VAL, MORE))
    values = fit(module, train, {"val": val, "more": more}, tmp_path)
    for part, suffix in ((VAL, ""), (MORE, "/dataloader_idx_1")):
        gap = module.evaluate(part) - module.evaluate(TRAIN)
        assert values[f"overfit/gap_loss{suffix}"] == pytest.approx(gap, rel=1e-4)


def test_several_training_loaders_at_once_are_named(tmp_path: Path) -> None:
    class Both(Model):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self.loss(batch["a"]) + self.loss(batch["b"])

    train = {name: DataLoader(samples("tuple", TRAIN), batch_size=4) for name in ("a", "b")}
    reason = "cannot take a fixed part of the training data: ValueError: training draws from 2 loaders at once"
    with pytest.warns(UserWarning, match=reason), pytest.raises(IndexError):
        fit(Both(), train, DataLoader(samples("tuple", VAL), batch_size=4), tmp_path)
