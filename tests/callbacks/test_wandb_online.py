"""Two ranks and one W&B run, which a server on this machine receives."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.wandb_server import WandbServer, wandb_server

SCRIPT = """
import wandb
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning_dropout.callbacks import DropoutScheduler, DropoutSummary, ModeGuard, OverfittingMonitor
from lightning_dropout.schedules import Linear
from tests.callbacks.test_wandb_report import Overfitter

monitor = OverfittingMonitor()
trainer = Trainer(
    accelerator="cpu", devices=2, strategy="ddp", max_epochs=6, log_every_n_steps=1,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    logger=[CSVLogger(".", name="", version=""), WandbLogger(project="project")],
    callbacks=[DropoutSummary(), ModeGuard(), monitor, DropoutScheduler(Linear(0.1, 0.0))],
)
trainer.fit(Overfitter())
result = {"onset": monitor.onset}
if trainer.is_global_zero:
    result["run"] = trainer.loggers[1].experiment.id
    wandb.finish()
"""


class Fit(NamedTuple):
    """What a fit on two ranks leaves on the machine that receives it, and on the one that ran it."""

    server: WandbServer
    folder: Path
    ranks: list[dict[str, Any]]


@pytest.fixture(scope="module")
def finished(run_ranks: Callable[..., list[Any]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fit]:
    folder = tmp_path_factory.mktemp("fit")
    with wandb_server() as server, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        for name, value in {"API_KEY": "0" * 40, "BASE_URL": server.url, "CONSOLE": "off"}.items():
            patch.setenv(f"WANDB_{name}", value)
        yield Fit(server, folder, run_ranks(SCRIPT, folder=folder))


def test_all_ranks_have_one_run(finished: Fit) -> None:
    assert [*finished.server.runs] == [*finished.server.streams] == [finished.ranks[0]["run"]]
    assert len(finished.ranks) == 2


def test_rows_arrive_with_their_steps(finished: Fit) -> None:
    server, folder, _ = finished
    history = server.history(*server.runs)
    with (folder / "metrics.csv").open() as file:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    for name in {name for row in rows for name in row} - {"step"}:
        sent, arrived = ([row for row in table if name in row] for table in (rows, history))
        assert [row["trainer/global_step"] for row in arrived] == [row["step"] for row in sent]
        assert [row[name] for row in arrived] == pytest.approx([row[name] for row in sent])
    assert len([row for row in rows if "overfit/gap_loss" in row]) == 6


def test_all_else_arrives(finished: Fit) -> None:
    server, _, ranks = finished
    summary, config = server.summary(*server.runs), server.config(*server.runs)
    assert set(summary["overfit/gap_loss"]) == {"min", "last"}
    assert summary["overfit/onset_step"] == ranks[0]["onset"]
    assert config["dropout_sites"] == {"net.3": {"kind": "element", "sites": 1, "rate": 0.1}}
    assert config["dropout_audit"].startswith("not run: ")
    assert [alert["title"] for alert in server.alerts] == ["Dropout is not in the right mode", "Overfitting"]
    assert json.loads(server.files["dropout/rates.table.json"])["ncols"] == 4
    assert any(name.startswith("media/images/overfit/overfitting_") for name in server.files)
