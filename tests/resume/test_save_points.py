"""Wherever a checkpoint is saved, a run resumed from it misses nothing and repeats only what was not finished."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping, ModelCheckpoint
from torch import nn
from torch.utils.data import DistributedSampler

from lightning_dropout.callbacks import RankSeed
from lightning_dropout.data.loader import ResumableLoader
from tests.resume.tiny_run import NUM_BATCHES, Killed, Recorder, fit

SMALL: dict[str, Any] = {"max_epochs": 2, "limit_train_batches": 4}
SETTINGS: dict[str, dict[str, Any]] = {
    "scheduled": {**SMALL},
    "adaptive": {**SMALL, "adaptive": True, "val_check_interval": 2},
    "by batches": {**SMALL, "adaptive": True, "val_check_interval": 3, "check_val_every_n_epoch": None},
    "accumulated": {**SMALL, "accumulate_grad_batches": 3},
}
HOOKS = (
    "on_train_batch_start",
    "on_before_optimizer_step",
    "on_train_batch_end",
    "on_validation_batch_end",
    "on_validation_epoch_end",
    "on_validation_end",
    "on_train_epoch_end",
)


class Saver(Callback):
    """Saves in every hook, and notes how many steps and rows there were."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.num_done: dict[Path, tuple[int, int]] = {}

    def save(self, trainer: Trainer, hook: str) -> None:
        if trainer.sanity_checking:
            return
        (recorder,) = (each for each in trainer.callbacks if isinstance(each, Recorder))  # type: ignore[attr-defined]
        path = self.folder / f"{len(self.num_done):02}-{hook}.ckpt"
        trainer.save_checkpoint(path, weights_only=False)
        # The row of a batch is written after its last hook.
        num_rows = len(trainer.logger.rows) + (hook == "on_train_batch_end")  # type: ignore[union-attr]
        self.num_done[path] = len(recorder.steps), num_rows


for hook in HOOKS:
    setattr(Saver, hook, lambda self, trainer, *args, hook=hook: self.save(trainer, hook))


def chosen(paths: Iterator[Path]) -> list[Path]:
    """Of every hook the saves that lie differently: the first, the last, and some between."""
    by_hook: dict[str, list[Path]] = {}
    for path in paths:
        by_hook.setdefault(path.stem[3:], []).append(path)
    return [path for paths in by_hook.values() for path in {*paths[:: max(1, len(paths) // 3)], paths[-1]}]


@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_goes_on_from_a_save_in_any_hook(name: str, tmp_path: Path) -> None:
    saver = Saver(tmp_path)
    whole = fit(tmp_path, saver, **SETTINGS[name])
    window = SETTINGS[name].get("accumulate_grad_batches", 1)
    paths = chosen(iter(saver.num_done))
    assert {path.stem[3:] for path in paths} == set(HOOKS)
    for path in paths:
        num_steps, num_rows = saver.num_done[path]
        resumed = fit(tmp_path, ckpt_path=path, **SETTINGS[name])
        assert resumed.continues(whole), path.stem
        num_repeated = len(resumed.steps) - (len(whole.steps) - num_steps)
        assert 0 <= num_repeated < window, path.stem
        assert len(resumed.rows) >= len(whole.rows) - num_rows, path.stem


class Failing(Callback):
    """Raises in one of its hooks, in the second epoch."""

    def __init__(self, hook: str, error: BaseException) -> None:
        def fail(trainer: Trainer, *args: Any) -> None:
            if not trainer.sanity_checking and trainer.current_epoch == 1 and trainer.fit_loop.batch_idx > 0:
                raise error

        setattr(self, hook, fail)


class SaveOnException(Checkpoint):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_exception(self, trainer: Trainer, *args: Any) -> None:
        trainer.save_checkpoint(self.path, weights_only=False)


@pytest.mark.parametrize("error", [Killed(), KeyboardInterrupt()], ids=["exception", "interrupt"])
@pytest.mark.parametrize("hook", HOOKS[:5])
def test_a_run_goes_on_from_what_an_exception_left(hook: str, error: BaseException, tmp_path: Path) -> None:
    settings = SETTINGS["adaptive"]
    whole = fit(tmp_path, **settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("signal.signal", lambda *args: None)  # Lightning makes the process deaf to interrupts
        failed = fit(tmp_path, SaveOnException(tmp_path / "failed.ckpt"), Failing(hook, error), **settings)
    resumed = fit(tmp_path, ckpt_path=tmp_path / "failed.ckpt", **settings)
    assert resumed.continues(whole)
    assert len(failed.steps) + len(resumed.steps) == len(whole.steps)
    assert [row for _, row in failed.rows + resumed.rows if "val_loss" in row] == [
        row for _, row in whole.rows if "val_loss" in row
    ]


def test_a_resumed_run_can_be_resumed(tmp_path: Path) -> None:
    settings = SETTINGS["adaptive"]
    whole = fit(tmp_path, **settings)
    in_validation = Failing("on_validation_batch_end", Killed())
    fit(tmp_path, SaveOnException(tmp_path / "failed.ckpt"), in_validation, **settings)
    saver = Saver(tmp_path)
    fit(tmp_path, saver, ckpt_path=tmp_path / "failed.ckpt", **settings)
    for path in saver.num_done:
        if path.stem.endswith(("on_validation_end", "on_train_batch_end")):
            assert fit(tmp_path, ckpt_path=path, **settings).continues(whole), path.stem


class Normed(LightningModule):
    """Its running statistics see every batch of an accumulation window."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.3), nn.Linear(4, 1))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.net(batch).square().mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.net(batch).square().mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.1)


class Batches(torch.utils.data.Dataset[torch.Tensor]):
    def __len__(self) -> int:
        return 4 * NUM_BATCHES

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.randn(4, generator=torch.Generator().manual_seed(index))


class AfterEveryHook(Checkpoint):
    """Saves whenever it can."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.saved_at = folder, list[int]()

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        self.saved_at.append(trainer.fit_loop.batch_idx + 1)
        trainer.save_checkpoint(self.folder / f"{len(self.saved_at)}.ckpt", weights_only=False)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.on_train_batch_end(trainer)


def train(*callbacks: Callback, **settings: Any) -> dict[str, torch.Tensor]:
    module = Normed()
    loader = ResumableLoader(Batches(), batch_size=4, sampler=DistributedSampler(Batches(), 1, 0, shuffle=False))
    ckpt_path = settings.pop("ckpt_path", None)
    trainer = Trainer(
        **{"max_epochs": 1, "accumulate_grad_batches": 4, "val_check_interval": 3, **settings},
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        callbacks=[RankSeed(0), *callbacks],
    )
    trainer.fit(module, loader, loader, ckpt_path=ckpt_path, weights_only=True)
    return module.state_dict()


def test_saves_wait_for_the_end_of_an_accumulation_window(tmp_path: Path) -> None:
    saver = AfterEveryHook(tmp_path)
    whole = train(saver, max_epochs=2)
    assert saver.saved_at == [4, 4, 6, 6] * 2  # twice: after a batch, and for the validations at batches 3 and 6
    for number in range(1, 9):
        resumed = train(max_epochs=2, ckpt_path=tmp_path / f"{number}.ckpt")
        assert all(map(torch.equal, whole.values(), resumed.values())), number


def test_a_best_checkpoint_holds_the_weights_of_its_step(tmp_path: Path) -> None:
    train(ModelCheckpoint(tmp_path, "{step}", monitor="val_loss", save_top_k=-1), max_epochs=2)
    found = {path.stem: torch.load(path, weights_only=True)["global_step"] for path in tmp_path.glob("*.ckpt")}
    assert found == {f"step={step}": step for step in (1, 2, 3, 4)}


def test_a_fit_that_stops_within_a_window_saves_what_waits(tmp_path: Path) -> None:
    stop = EarlyStopping("val_loss", stopping_threshold=1e9)
    saver = ModelCheckpoint(tmp_path, "{step}", monitor="val_loss")
    train(stop, saver, val_check_interval=5)
    assert [path.name for path in tmp_path.glob("*.ckpt")] == ["step=1.ckpt"]
