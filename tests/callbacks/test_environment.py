from __future__ import annotations

import re
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from torch import nn

from lightning_dropout.callbacks import DropoutSummary, ModeGuard, OverfittingMonitor

GROUP = "lightning.pytorch.callbacks_factory"
FACTORY = "lightning_dropout_callbacks.environment:callbacks_from_environment"
DEFAULTS = (DropoutSummary, ModeGuard, OverfittingMonitor)


class Model(BoringModel):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(32, 2), nn.Dropout(0.1))

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.layer(batch).square().mean())


@pytest.fixture(autouse=True)
def entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning finds the factory, and nothing else, as if the package was just installed."""

    def entry_points(group: str) -> list[EntryPoint]:
        return [EntryPoint("lightning_dropout", FACTORY, GROUP)] if group == GROUP else []

    monkeypatch.setattr("lightning.fabric.utilities.registry.entry_points", entry_points)
    monkeypatch.delenv("LIGHTNING_DROPOUT", raising=False)


def trainer(folder: Path, *callbacks: Callback) -> Trainer:
    return Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_train_batches=2,
        limit_val_batches=2,
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=list(callbacks),
    )


def attached(trainer: Trainer) -> list[Callback]:
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [callback for callback in callbacks if isinstance(callback, DEFAULTS)]


@pytest.mark.parametrize("value", [None, "", "0"])
def test_nothing_is_attached_without_the_variable(
    value: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is not None:
        monkeypatch.setenv("LIGHTNING_DROPOUT", value)
    plain = trainer(tmp_path)
    plain.fit(Model())
    assert [type(callback) for callback in plain.callbacks] == [ModelCheckpoint]  # type: ignore[attr-defined]


def test_the_variable_attaches_the_default_callbacks_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LIGHTNING_DROPOUT", "1")
    watched = trainer(tmp_path)
    with caplog.at_level("INFO"):
        watched.fit(Model())
        watched.test(Model(), verbose=False)
    assert [type(callback) for callback in attached(watched)] == [*DEFAULTS]
    assert isinstance(watched.callbacks[-1], ModelCheckpoint)  # type: ignore[attr-defined]
    assert caplog.text.count("LIGHTNING_DROPOUT=1 attached DropoutSummary, ModeGuard, OverfittingMonitor.") == 1
    assert re.search(r"ModeGuard checked modes .* nothing found", caplog.text)
    assert (tmp_path / "overfitting.png").exists()


def test_a_callback_that_was_attached_by_hand_stays_the_only_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class MyGuard(ModeGuard):
        pass

    class WithMonitor(Model):
        def configure_callbacks(self) -> Any:
            return [monitor]

    monkeypatch.setenv("LIGHTNING_DROPOUT", "1")
    guard, monitor = MyGuard("raise"), OverfittingMonitor()
    watched = trainer(tmp_path, guard)
    watched.fit(WithMonitor())
    assert sorted(type(callback).__name__ for callback in attached(watched)) == [
        "DropoutSummary",
        "MyGuard",
        "OverfittingMonitor",
    ]
    assert guard in attached(watched)
    assert monitor in attached(watched)


def test_any_other_value_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_DROPOUT", "yes")
    with pytest.raises(ValueError, match="LIGHTNING_DROPOUT=yes in the environment: 1 attaches the default callbacks"):
        trainer(tmp_path)
