from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel, RandomIterableDataset
from lightning_dropout_callbacks.progress import FitProgress
from torch.utils.data import DataLoader


class Recorder(Callback):
    def __init__(self, **totals: int) -> None:
        self.totals = totals
        self.seen: list[float] = []
        self.quiet: list[float] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.progress = FitProgress(trainer, **self.totals, needed_by="Recorder")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.seen.append(self.progress.now(trainer))
        self.quiet.append(self.progress.quiet_until(trainer))


class TwoOptimizers(BoringModel):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.parameters(), 0.1), torch.optim.SGD(self.parameters(), 0.1)]

    def training_step(self, batch: Any, batch_idx: int) -> None:
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(self.step(batch))
            optimizer.step()


class Endless(BoringModel):
    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(RandomIterableDataset(32, 64))


def fit(model: LightningModule, *callbacks: Callback, ckpt_path: Any = None, **kwargs: Any) -> Trainer:
    defaults = {"max_epochs": 2, "limit_train_batches": 6, "limit_val_batches": 0}
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **{**defaults, **kwargs},
    )
    trainer.fit(model, ckpt_path=ckpt_path)
    return trainer


def seen(model: LightningModule, *, totals: dict[str, int] | None = None, **kwargs: Any) -> list[float]:
    recorder = Recorder(**(totals or {}))
    fit(model, recorder, **kwargs)
    return recorder.seen


def test_counts_to_the_end_of_the_epochs() -> None:
    assert seen(BoringModel()) == pytest.approx([i / 12 for i in range(12)])


def test_moves_4096_times_in_a_long_fit() -> None:
    long = seen(BoringModel(), totals={"total_steps": 12 * 4096 + 5}, limit_train_batches=30, max_epochs=1)
    assert long == [(i - i % 12) / (12 * 4096 + 5) for i in range(30)]
    short = seen(BoringModel(), totals={"total_steps": 2 * 4096 - 1}, limit_train_batches=30, max_epochs=1)
    assert short == [i / (2 * 4096 - 1) for i in range(30)]


@pytest.mark.parametrize(("every", "last"), [(0, [math.inf] * 3), (4, [7, 7, 7])])
def test_is_quiet_up_to_a_change_or_a_logged_step_and_changes_no_more_at_its_end(every: int, last: list[float]) -> None:
    recorder = Recorder(total_steps=3)
    fit(BoringModel(), recorder, max_epochs=1, log_every_n_steps=every)
    assert recorder.seen == pytest.approx([0, 1 / 3, 2 / 3, 1, 1, 1])
    assert recorder.quiet == [1, 2, 3, *last]


def test_counts_to_the_last_step_where_that_comes_first() -> None:
    assert seen(BoringModel(), max_steps=5) == pytest.approx([i / 5 for i in range(5)])
    assert seen(BoringModel(), max_steps=5, max_epochs=-1) == pytest.approx([i / 5 for i in range(5)])


def test_batches_of_one_accumulation_window_have_one_progress() -> None:
    expected = [i / 4 for i in (0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3)]
    assert seen(BoringModel(), accumulate_grad_batches=4) == pytest.approx(expected)


def test_several_optimizers_do_not_hurry_it() -> None:
    assert seen(TwoOptimizers()) == pytest.approx([i / 12 for i in range(12)])
    assert seen(TwoOptimizers(), max_steps=8, max_epochs=-1) == pytest.approx([i / 4 for i in range(4)])


def test_data_of_unknown_length_needs_a_total() -> None:
    assert seen(Endless(), limit_train_batches=1.0, max_epochs=-1, max_steps=4) == [0.0, 0.25, 0.5, 0.75]
    assert seen(Endless(), limit_train_batches=1.0, max_epochs=1, totals={"total_steps": 128})[-1] == 63 / 128
    with pytest.raises(ValueError, match=r"Recorder cannot tell how long this fit is \(max_epochs=1, max_steps=-1"):
        seen(Endless(), limit_train_batches=1.0, max_epochs=1)


def test_a_total_that_is_too_small_stays_at_the_end() -> None:
    assert seen(BoringModel(), max_epochs=1, totals={"total_steps": 3}) == pytest.approx([0, 1 / 3, 2 / 3, 1, 1, 1])


def test_fast_dev_run_and_overfit_batches_have_their_own_end() -> None:
    assert seen(BoringModel(), fast_dev_run=2, limit_train_batches=None, limit_val_batches=None) == [0.0, 0.5]
    assert seen(BoringModel(), overfit_batches=2, limit_train_batches=None) == [0.0, 0.25, 0.5, 0.75]


def test_a_total_in_epochs_counts_the_steps_of_so_many_epochs() -> None:
    options = {"max_epochs": 3, "limit_train_batches": 4, "accumulate_grad_batches": 2}
    expected = pytest.approx([0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1, 1, 1, 1])
    assert seen(BoringModel(), totals={"total_epochs": 2}, **options) == expected


def test_a_total_in_epochs_of_unknown_length_counts_whole_epochs() -> None:
    progress = seen(Endless(), totals={"total_epochs": 4}, limit_train_batches=1.0, max_epochs=2)
    assert sorted(set(progress)) == [0.0, 0.25]
