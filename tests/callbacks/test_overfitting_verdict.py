from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning_dropout_callbacks.overfitting_history import OverfittingRecord
from lightning_dropout_callbacks.overfitting_verdict import gap_slopes, judged_loss
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_dropout.callbacks import OverfittingMonitor
from lightning_dropout.metrics import FitJudge


class Scripted(LightningModule):
    """Follows given curves: the training data are zeros, the validation data ones."""

    def __init__(self, train: list[float], val: list[float], name: str = "val_loss") -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.curves = {0.0: train, 1.0: val}
        self.name = name

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.weight * batch.sum()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log(self.name, self.curves[batch[0].item()][self.current_epoch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


VAL = [1.0, 0.8, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3]
TRAIN = [0.9, 0.7, 0.5, 0.4, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1]
STATES = ["underfit"] * 3 + ["fit"] * 3 + ["overfit"] * 4


def fit(
    module: LightningModule, folder: Path, *callbacks: Callback, num_epochs: int = 10, ckpt_path: Path | None = None
) -> Trainer:
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=num_epochs,
        logger=False,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=list(callbacks),
    )
    loaders = DataLoader(torch.zeros(8), batch_size=2), DataLoader(torch.ones(4), batch_size=2)
    trainer.fit(module, *loaders, ckpt_path=ckpt_path, weights_only=True if ckpt_path else None)
    return trainer


def test_state_onset_and_slope_follow_the_curves(tmp_path: Path) -> None:
    seen: list[tuple[Any, Any]] = []

    class Read(Callback):
        def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
            if not trainer.sanity_checking:
                seen.append((monitor.state, trainer.callback_metrics["overfit/state"].item()))

    monitor = OverfittingMonitor(plot=False)
    assert (monitor.state, monitor.onset) == (None, None)
    fit(Scripted(TRAIN, VAL), tmp_path, monitor, Read())
    numbers = {"underfit": -1.0, "fit": 0.0, "overfit": 1.0}
    assert seen == [(state, numbers[state]) for state in STATES]
    assert monitor.onset == 12  # after the third epoch, of 4 steps each
    slopes = [record.values["overfit/slope_loss"] for record in monitor.history]
    gaps = np.array(VAL) - np.array(TRAIN)
    expected = [np.polyfit(range(4 * k - 4 * min(k, 5), 4 * k, 4), gaps[max(0, k - 5) : k], 1)[0] for k in range(2, 11)]
    assert slopes == pytest.approx([0.0, *(1000 * slope for slope in expected)], rel=1e-4, abs=1e-3)


def test_early_stopping_and_checkpoints_can_follow_the_state(tmp_path: Path) -> None:
    stop = EarlyStopping("overfit/state", mode="min", divergence_threshold=0.5, patience=1_000)
    save = ModelCheckpoint(tmp_path, "{epoch}", monitor="overfit/gap_loss", mode="min")
    trainer = fit(Scripted(TRAIN, VAL), tmp_path, stop, save, OverfittingMonitor(plot=False))
    assert trainer.current_epoch == 1 + STATES.index("overfit")
    assert save.best_model_path.endswith("epoch=0.ckpt")


def test_a_resumed_run_judges_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    first, resumed = OverfittingMonitor(plot=False), OverfittingMonitor(plot=False)
    fit(Scripted(TRAIN, VAL), tmp_path, first, num_epochs=6).save_checkpoint(tmp_path / "last.ckpt")
    fit(Scripted(TRAIN, VAL), tmp_path, resumed, num_epochs=7, ckpt_path=tmp_path / "last.ckpt")
    assert (first.state, resumed.state) == ("fit", "overfit")
    restored = OverfittingMonitor(plot=False)
    restored.load_state_dict(resumed.state_dict())
    assert (restored.state, restored.onset, restored.history) == (resumed.state, resumed.onset, resumed.history)


def test_the_judge_and_its_metric_can_be_chosen(tmp_path: Path) -> None:
    strict = OverfittingMonitor(plot=False, loss="error", judge=FitJudge(target=0.9, patience=1))
    fit(Scripted(TRAIN, VAL, name="val_error"), tmp_path, strict)
    assert [record.values["overfit/state"] for record in strict.history].count(1.0) == 0
    absent = OverfittingMonitor(plot=False, loss="mse")
    with pytest.warns(
        UserWarning, match=r"cannot tell whether the model overfits: no mse was measured \(found: loss\)"
    ):
        fit(Scripted(TRAIN, VAL), tmp_path, absent)
    assert (absent.state, absent.onset) == (None, None)


def test_a_loss_that_falls_below_zero_keeps_its_last_state(tmp_path: Path) -> None:
    monitor = OverfittingMonitor(plot=False)
    with pytest.warns(
        UserWarning, match=r"cannot tell whether the model overfits: The validation loss is 0.0"
    ) as warned:
        fit(Scripted([x - 1.0 for x in TRAIN], [x - 1.0 for x in VAL[::-1]]), tmp_path, monitor)
    assert sum("OverfittingMonitor" in str(w.message) for w in warned) == 1
    states = [record.values["overfit/state"] for record in monitor.history]
    assert states[2:] == [states[2]] * 8


def test_a_loss_that_is_not_finite_stops_nothing(tmp_path: Path) -> None:
    monitor = OverfittingMonitor(plot=False)
    fit(Scripted([math.nan] * 10, [*VAL[:5], *[math.inf] * 5]), tmp_path, monitor)
    assert monitor.state == "fit"
    assert monitor.onset is None


def test_what_is_judged_is_the_loss_or_the_first_that_is_better_when_lower() -> None:
    def record(**metrics: float) -> OverfittingRecord:
        values = {f"overfit/train_{name}": 1.0 for name in metrics}
        values |= {f"overfit/val_{name}": 2.0 for name in metrics}
        values |= {f"overfit/gap_{name}": gap for name, gap in metrics.items()}
        return OverfittingRecord(1, 0, values, {})

    assert judged_loss([record(acc=-1.0, mse=1.0, loss=1.0)]) == "loss"
    assert judged_loss([record(acc=-1.0, mse=1.0)]) == "mse"
    assert judged_loss([record(acc=-1.0)]) is None
    assert judged_loss([]) is None


def test_a_metric_that_comes_late_has_a_slope_from_its_own_measurements() -> None:
    def record(step: int, **gaps: float) -> OverfittingRecord:
        return OverfittingRecord(step, 0, {f"overfit/gap_{name}": gap for name, gap in gaps.items()}, {})

    history = [record(0, loss=0.0), record(100, loss=0.1, acc=0.5), record(200, loss=0.4, acc=0.3)]
    assert gap_slopes(history) == pytest.approx({"loss": 2.0, "acc": -2.0})
    assert gap_slopes(history[:2]) == pytest.approx({"loss": 1.0, "acc": 0.0})
