import sys
from typing import ClassVar

import pytest
from lightning.pytorch import Callback

from lightning_dropout.cli.main import main


class Watch(Callback):
    """Notes what the progress bar shows."""

    bars: ClassVar[list] = []

    def on_train_batch_end(self, trainer, pl_module, *args):
        bar = trainer.progress_bar_callback
        self.bars.append(bar and (type(bar).__name__, bar.get_metrics(trainer, pl_module)))


@pytest.fixture
def watched(monkeypatch, tiny):
    """Runs ``char-lm`` with more options; returns what its progress bar showed after each step."""
    monkeypatch.setitem(sys.modules, "test_progress_callbacks", sys.modules[__name__])
    monkeypatch.setattr(Watch, "bars", [])

    def run(*options):
        tail = ["--run.wandb=disabled", "--trainer.callbacks+=test_progress_callbacks.Watch", *options]
        assert main(["run", "char-lm", *tiny, *tail]) == 0
        return Watch.bars

    return run


def test_rate_and_gap_are_seen_while_waiting(watched, workplace, capfd):
    bars = watched("--trainer.enable_progress_bar=true")
    assert {name for name, _ in bars} == {"RunProgress"}
    first, *_, last = [items for _, items in bars]
    assert first["dropout"] == pytest.approx(0.1)
    assert "gap" not in first
    assert last.keys() == {"train_loss", "dropout", "val_loss", "gap"}
    assert "gap: " in capfd.readouterr().out


def test_a_bar_of_ones_own_stays(watched, workplace, capfd):
    bar = "--trainer.callbacks+=lightning.pytorch.callbacks.TQDMProgressBar"
    assert {name for name, _ in watched("--trainer.enable_progress_bar=true", bar)} == {"TQDMProgressBar"}


def test_no_bar_where_none_is_wanted(watched, workplace):
    assert set(watched()) == {None}
