import csv
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from lightning.pytorch import Callback

from lightning_dropout.cli.main import main


def metrics_of(run):
    """The rows of metrics.csv, with what is in them alone."""
    with (run / "metrics.csv").open() as file:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]


def records_of(run, kind):
    """The records of one kind in the offline W&B run, as W&B's own tool reads them."""
    (path,) = run.glob("wandb/offline-run-*")
    command = [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--json", path]
    lines = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
    return [record[kind] for record in map(json.loads, lines) if record["type"] == kind]


class HangUp(Callback):
    """The terminal is closed in the middle of a run."""

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == 3:
            os.kill(os.getpid(), signal.SIGHUP)


class TerminateAtStep(Callback):
    """A scheduler asks the process to stop."""

    def on_train_batch_start(self, trainer, *args):
        if trainer.global_step == 1:
            os.kill(os.getpid(), signal.SIGTERM)


class Interrupt(Callback):
    """The user has seen enough."""

    def on_train_batch_start(self, trainer, *args):
        if trainer.global_step == 4:
            raise KeyboardInterrupt


@pytest.fixture
def this_module(monkeypatch):
    """Makes the callbacks above importable by the command line."""
    monkeypatch.setitem(sys.modules, "test_training_callbacks", sys.modules[__name__])


def test_a_run_leaves_everything_in_one_folder(workplace, tiny, capfd):
    assert main(["run", "char-lm", *tiny]) == 0
    run = workplace / "runs/char-lm/version_0"
    assert [path.name for path in workplace.iterdir()] == ["runs"]
    assert {"metrics.csv", "config.yaml", "checkpoints", "overfitting.png", "wandb"} <= {p.name for p in run.iterdir()}
    assert (run / "checkpoints/best.ckpt").exists()

    out, err = capfd.readouterr()
    assert err == ""
    for expected in (
        "best val_loss",
        "network.blocks.0.ff_sublayer",
        "runs/char-lm/version_0/overfitting.png",
        "wandb leet runs/char-lm/version_0/wandb/offline-run-",
        "wandb sync runs/char-lm/version_0/wandb/offline-run-",
        "lightning run char-lm --trainer.callbacks.schedule 0.1",
    ):
        assert expected in out
    assert len(out.split("sample")[-1].strip()) > 250

    # Every row that Lightning logged is in the W&B run, key by key.
    expected = Counter(name for row in metrics_of(run) for name in row)
    expected["trainer/global_step"] = expected.pop("step")
    history = records_of(run, "history")
    found = Counter(name for row in history for name in row["item"] if name in expected)
    expected["trainer/global_step"] = len(history)  # pictures and tables have rows of their own
    assert found == expected
    assert found["val_loss"] == found["overfit/train_loss"] == found["overfit/gap_loss"] == 2
    assert found["train_loss"] == found["dropout/network.emb"] == 6

    config = {name: value for update in records_of(run, "config") for name, value in update["update"].items()}
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"] == saved["model"]
    assert config["trainer"]["max_epochs"] == 2
    assert config["seed_everything"] == 42

    # The next run has a folder of its own, and the same seed gives the same run.
    assert main(["run", str(run / "config.yaml"), "--run.wandb=disabled", "--run.next=null"]) == 0
    again = workplace / "runs/char-lm/version_1"
    assert not (again / "wandb").exists()
    assert metrics_of(again) == metrics_of(run)

    # Without a suggestion of the recipe, the next command scores the best weights.
    command = re.search(r"next +lightning-dropout (.*)", capfd.readouterr().out)[1]
    assert main(command.split()) == 0
    assert "val_perplexity" in capfd.readouterr().out
    assert [path.name for path in workplace.iterdir()] == ["runs"]


def test_a_run_goes_on_from_its_checkpoint_under_what_was_typed(workplace, tiny, capfd):
    tiny = [*tiny, "--run.wandb=disabled"]
    assert main(["run", "char-lm", *tiny]) == 0
    best = "--ckpt_path=runs/char-lm/version_0/checkpoints/best.ckpt"
    assert main(["run", "char-lm", *tiny, best, "--trainer.max_epochs=3", "--model.weight_decay=0.5"]) == 0
    run = workplace / "runs/char-lm/version_1"
    assert int(metrics_of(run)[0]["step"]) >= 3
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["init_args"]["weight_decay"] == 0.5
    capfd.readouterr()
    assert main(["run", "char-lm", *tiny, best, "--model.network.dim=32"]) == 2
    assert capfd.readouterr().err.startswith("lightning-dropout: the checkpoint is of another model.")
    assert not (workplace / "runs/char-lm/version_2").exists()


@pytest.fixture
def hangup_by_default():
    handler = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored
    yield
    signal.signal(signal.SIGHUP, handler)


@pytest.mark.parametrize(("callback", "code"), [("HangUp", 129), ("TerminateAtStep", 143)])
def test_a_signal_loses_nothing_that_was_measured(callback, code, workplace, tiny, this_module, hangup_by_default):
    with pytest.raises(SystemExit) as exit:
        main(["run", "char-lm", *tiny, f"--trainer.callbacks+=test_training_callbacks.{callback}"])
    assert exit.value.code == code
    run = workplace / "runs/char-lm/version_0"
    assert len([row for row in metrics_of(run) if "train_loss" in row]) >= 2
    assert len([row for row in records_of(run, "history") if "train_loss" in row["item"]]) >= 2
    assert records_of(run, "exit")[0]["exit_code"] == 1
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_an_interrupted_run_says_what_it_has(workplace, tiny, this_module, monkeypatch, capfd):
    monkeypatch.setattr(signal, "signal", lambda *args: None)  # Lightning makes the process deaf to interrupts
    with pytest.raises(SystemExit) as exit:
        main(
            ["run", "char-lm", *tiny, "--run.wandb=disabled", "--trainer.callbacks+=test_training_callbacks.Interrupt"]
        )
    assert exit.value.code == 1
    out = capfd.readouterr().out
    assert re.search(r"steps +4\n", out)
    assert "runs/char-lm/version_0/checkpoints/best.ckpt" in out


def test_wandb_mode_is_what_the_environment_says(workplace, tiny, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert main(["run", "char-lm", *tiny]) == 0
    assert not (workplace / "runs/char-lm/version_0/wandb").exists()


def test_models_and_data_without_a_vocabulary_are_left_alone(workplace):
    own = {"model": "lightning.pytorch.demos.boring_classes.BoringModel"}
    (workplace / "own.yaml").write_text(yaml.safe_dump(own))
    trial = ["--trainer.fast_dev_run=true", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    assert main(["run", "own.yaml", *trial]) == 0
    assert main(["run", "own.yaml", *trial, "--data=lightning.pytorch.demos.boring_classes.BoringDataModule"]) == 0
    assert [path.name for path in workplace.iterdir()] == ["own.yaml"]


def test_a_vocabulary_that_is_given_stays(workplace, tiny):
    options = ["--trainer.fast_dev_run=true", "--model.network.vocab_size=300"]
    assert main(["run", "char-lm", *tiny, *options]) == 0
    assert main(["run", "char-lm", *tiny, "--run.wandb=disabled", options[1]]) == 0
    config = yaml.safe_load((workplace / "runs/char-lm/version_0/config.yaml").read_text())
    assert config["model"]["init_args"]["network"]["init_args"]["vocab_size"] == 300


def test_a_logger_of_ones_own_replaces_ours(workplace, tiny):
    logger = "--trainer.logger=lightning.pytorch.loggers.CSVLogger"
    assert main(["run", "char-lm", *tiny, logger, "--trainer.logger.save_dir=mine"]) == 0
    assert (workplace / "mine/lightning_logs/version_0/metrics.csv").exists()
    assert not list(workplace.rglob("offline-run-*"))


def test_print_config_prints_and_writes_nothing(workplace, tiny, capfd):
    with pytest.raises(SystemExit) as exit:
        main(["run", "char-lm", *tiny, "--print_config"])
    assert exit.value.code == 0
    assert yaml.safe_load(capfd.readouterr().out)["trainer"]["max_epochs"] == 2
    assert list(workplace.iterdir()) == []
