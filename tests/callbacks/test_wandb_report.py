"""What a W&B run, TensorBoard and the log folder hold after a fit, read back from their files."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
import wandb
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from lightning_dropout_callbacks.overfitting_history import OverfittingRecord
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_dropout.callbacks import DropoutScheduler, DropoutSummary, ModeGuard, OverfittingMonitor
from lightning_dropout.schedules import Linear
from tests.wandb_server import offline_records, wandb_environment

NUM_EPOCHS = 6


def data(num_samples: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_samples, 8, generator=generator)
    noise = torch.randn(num_samples, generator=generator)
    return TensorDataset(x, (x[:, 0] + 2 * noise > 0).long())


class Overfitter(LightningModule):
    """Learns noise, with a batch norm before its dropout, and dropout that is on in validation."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(8, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 2))
        self.example_input_array = torch.zeros(4, 8)

    def forward(self, x: Tensor) -> Any:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        logits = self(F.dropout(batch[0], 1e-6))
        self.log("val_loss", F.cross_entropy(logits, batch[1]))
        self.log("val_acc", (logits.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.03)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(data(60, seed=1), batch_size=10, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(data(40, seed=2), batch_size=10)


def fit(folder: Path, *loggers: Any, **kwargs: Any) -> tuple[OverfittingMonitor, Trainer]:
    monitor = OverfittingMonitor()
    trainer = Trainer(
        max_epochs=NUM_EPOCHS,
        accelerator="cpu",
        logger=[CSVLogger(folder, name="", version="csv"), *loggers],
        log_every_n_steps=3,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[DropoutSummary(), ModeGuard(), monitor, DropoutScheduler(Linear(0.1, 0.0))],
        **kwargs,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="ModeGuard: Dropout is active in validation")
        trainer.fit(Overfitter())
    return monitor, trainer


class Fit(NamedTuple):
    """One fit, and what its loggers have of it."""

    folder: Path
    history: list[OverfittingRecord]
    onset: int | None
    rows: list[dict[str, float]]
    records: dict[str, list[dict[str, Any]]]
    files: Path

    @property
    def items(self) -> list[dict[str, Any]]:
        """The rows of the W&B run."""
        return [record["item"] for record in self.records["history"]]

    def scalars(self) -> Iterator[tuple[str, list[float], list[float]]]:
        """Name, steps and values of every curve in metrics.csv."""
        for name in {name for row in self.rows for name in row} - {"step"}:
            rows = [row for row in self.rows if name in row]
            yield name, [row["step"] for row in rows], [row[name] for row in rows]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fit]:
    folder = tmp_path_factory.mktemp("fit")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"WANDB_CONSOLE": "off", "WANDB_SILENT": "true", "WANDB_MODE": "offline"}.items():
            patch.setenv(name, value)
        tracker = WandbLogger(save_dir=folder, project="project")
        monitor, _ = fit(folder, tracker, TensorBoardLogger(folder, name="", version="tensorboard"))
        settings = tracker.experiment.settings
        wandb.finish()
        with (folder / "csv" / "metrics.csv").open() as table:
            rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(table)]
        yield Fit(
            folder / "csv",
            monitor.history,
            monitor.onset,
            rows,
            offline_records(Path(settings.sync_file)),
            Path(settings.files_dir),
        )


def test_every_scalar_is_in_wandb_once_at_its_step(finished: Fit) -> None:
    names = set()
    for name, steps, values in finished.scalars():
        names.add(name)
        items = [item for item in finished.items if name in item]
        assert [item["trainer/global_step"] for item in items] == steps
        assert [item[name] for item in items] == pytest.approx(values)
    assert names >= {"train_loss", "val_loss", "dropout/net", "overfit/gap_loss", "overfit/gap_acc", "overfit/state"}
    assert all("trainer/global_step" in item for item in finished.items)


def test_axes_are_defined(finished: Fit) -> None:
    metrics = {record.get("name") or record["glob_name"]: record for record in finished.records["metric"]}
    for name in ("dropout/*", "overfit/*", "overfit/gap_loss", "overfit/gap_acc"):
        assert metrics[name]["step_metric"] == "trainer/global_step"
    assert metrics["overfit/gap_loss"]["summary"] == {"min": True, "last": True}


def test_validations_have_the_epoch_they_belong_to(finished: Fit) -> None:
    epochs = [item["epoch"] for item in finished.items if "overfit/gap_loss" in item]
    assert epochs == [record.epoch for record in finished.history] == list(range(NUM_EPOCHS))


def test_the_summary_has_the_verdict(finished: Fit) -> None:
    summary: dict[str, Any] = {}
    for record in finished.records["summary"]:
        summary |= record["update"]
    gaps = [record.values["overfit/gap_loss"] for record in finished.history]
    assert summary["overfit/gap_loss"] == pytest.approx({"min": min(gaps), "last": gaps[-1]})
    best = min(finished.history, key=lambda record: record.values["overfit/val_loss"])
    assert finished.onset is not None
    assert summary["overfit/onset_step"] == summary["overfit/best_step"] == finished.onset == best.step
    assert summary["overfit/best_val_loss"] == pytest.approx(best.values["overfit/val_loss"])
    assert summary["overfit/best_gap_loss"] == pytest.approx(best.values["overfit/gap_loss"])


def test_the_configuration_has_the_sites_and_the_audit(finished: Fit) -> None:
    config: dict[str, Any] = {}
    for record in finished.records["config"]:
        config |= record["update"]
    assert config["dropout_sites"] == {"net.3": {"kind": "element", "sites": 1, "rate": 0.1}}
    rule = config["dropout_audit"]["LD001"]
    assert rule["title"] == "dropout right after batch norm"
    assert "'net.3'" in rule["sites"]["net.*"]


def test_alerts_are_sent_once(finished: Fit) -> None:
    guard, onset = finished.records["alert"]
    assert guard["title"] == "Dropout is not in the right mode"
    assert "F.dropout with rate 1e-06" in guard["text"]
    assert onset["title"] == "Overfitting"
    assert onset["text"].startswith(f"Validation loss was best at step {finished.onset}, at ")


def test_pictures_are_everywhere(finished: Fit) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    items = finished.items
    events = EventAccumulator(str(finished.folder.parent / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    validations = [item["trainer/global_step"] for item in items if "overfit/gap_loss" in item]
    for name in ("overfitting", "dropout_rates"):
        assert (finished.folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        shown = [item for item in items if f"overfit/{name}._type" in item]
        assert {item["trainer/global_step"] for item in shown} <= set(validations)
        assert shown[-1]["trainer/global_step"] == validations[-1]
        for item in shown:
            (file,) = item[f"overfit/{name}.filenames"]
            assert (finished.files / file).exists()
        assert [image.step for image in events.Images(f"overfit/{name}")][-1] == finished.history[-1].step
    assert len([item for item in items if "overfit/overfitting._type" in item]) == NUM_EPOCHS


def test_wandb_has_the_report(finished: Fit) -> None:
    (item,) = [item for item in finished.items if "overfit/report._type" in item]
    copy = finished.files / item["overfit/report.path"]
    assert copy.read_bytes() == (finished.folder / "report.html").read_bytes()


def test_tensorboard_has_the_scalars_of_the_others(finished: Fit) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished.folder.parent / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    for name, steps, values in finished.scalars():
        points = events.Scalars(name)
        assert [point.step for point in points] == steps
        assert [point.value for point in points] == pytest.approx(values)


def test_wandb_has_charts_and_the_rate_of_every_site(finished: Fit) -> None:
    tables = {
        name: json.loads((finished.files / item[f"{name}.path"]).read_text())
        for item in finished.items
        for name in ("dropout/rates", "overfit/curves_loss_table", "overfit/curves_acc_table")
        if f"{name}.path" in item
    }
    rates = [
        [record.step, record.epoch, site, rate]
        for record in finished.history
        for site, rate in record.site_rates.items()
    ]
    assert tables["dropout/rates"] == {"columns": ["step", "epoch", "site", "rate"], "data": rates}
    for metric in ("loss", "acc"):
        lines: dict[str, list[tuple[int, float]]] = {}
        for step, line, value in tables[f"overfit/curves_{metric}_table"]["data"]:
            lines.setdefault(line, []).append((step, value))
        for line, kind in (("training data, dropout off", "train"), ("validation data", "val")):
            expected = [(record.step, record.values[f"overfit/{kind}_{metric}"]) for record in finished.history]
            assert lines[line] == expected


def test_an_unhandled_exception_loses_nothing(tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from lightning.pytorch import Callback
from lightning.pytorch.loggers import WandbLogger
from tests.callbacks import test_wandb_report as here

class Fail(here.ModeGuard):
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 2:
            raise RuntimeError("the cluster is on fire")

here.ModeGuard = Fail
here.fit(Path({str(tmp_path)!r}), WandbLogger(save_dir={str(tmp_path)!r}))
"""
    environment = wandb_environment(WANDB_MODE="offline")
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert "RuntimeError: the cluster is on fire" in result.stderr
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    records = offline_records(file)
    found = Counter(name for record in records["history"] for name in record["item"])
    assert found["train_loss"] == 4
    assert found["overfit/gap_loss"] == 2
    assert found["dropout/rates._type"] == 1
    assert records["exit"][0]["exit_code"] == 1
