"""Two ranks and one W&B run, which a server on this machine receives."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.wandb_server import WandbServer, wandb_environment, wandb_server

SCRIPT = """
import csv, json, os, sys, warnings
from pathlib import Path
import torch, wandb
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning_dropout.callbacks import DropoutScheduler, DropoutSummary, ModeGuard, OverfittingMonitor
from lightning_dropout.schedules import Linear
from tests.callbacks.test_wandb_report import Overfitter

warnings.filterwarnings("ignore")
folder = Path(sys.argv[1])
monitor = OverfittingMonitor()
trainer = Trainer(
    accelerator="cpu", devices=2, strategy="ddp", max_epochs=6, log_every_n_steps=1,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    logger=[CSVLogger(folder, name="", version=""), WandbLogger(save_dir=folder, project="project")],
    callbacks=[DropoutSummary(), ModeGuard(), monitor, DropoutScheduler(Linear(0.1, 0.0))],
)
trainer.fit(Overfitter())
if trainer.is_global_zero:
    (folder / "fit.json").write_text(json.dumps([trainer.loggers[1].experiment.id, monitor.onset]))
    wandb.finish()
torch.distributed.barrier()
os._exit(0)
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("fit")
    script = folder / "script.py"
    script.write_text(SCRIPT)
    with wandb_server() as server:
        environment = wandb_environment(WANDB_API_KEY="0" * 40, WANDB_BASE_URL=server.url)
        command = [sys.executable, str(script), str(folder)]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
        assert result.returncode == 0, result.stderr[-3000:]
        yield server, folder


def test_all_ranks_have_one_run(finished: tuple[WandbServer, Path]) -> None:
    server, folder = finished
    run, _ = json.loads((folder / "fit.json").read_text())
    assert list(server.runs) == list(server.streams) == [run]


def test_rows_arrive_with_their_steps(finished: tuple[WandbServer, Path]) -> None:
    server, folder = finished
    history = server.history(*server.runs)
    with (folder / "metrics.csv").open() as file:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    for name in {name for row in rows for name in row} - {"step"}:
        sent, arrived = ([row for row in table if name in row] for table in (rows, history))
        assert [row["trainer/global_step"] for row in arrived] == [row["step"] for row in sent]
        assert [row[name] for row in arrived] == pytest.approx([row[name] for row in sent])
    assert len([row for row in rows if "overfit/gap_loss" in row]) == 6


def test_all_else_arrives(finished: tuple[WandbServer, Path]) -> None:
    server, folder = finished
    _, onset = json.loads((folder / "fit.json").read_text())
    summary, config = server.summary(*server.runs), server.config(*server.runs)
    assert set(summary["overfit/gap_loss"]) == {"min", "last"}
    assert summary["overfit/onset_step"] == onset
    assert config["dropout_sites"] == {"net.3": {"kind": "element", "sites": 1, "rate": 0.1}}
    assert config["dropout_audit"].startswith("not run: ")
    assert [alert["title"] for alert in server.alerts] == ["Dropout is not in the right mode", "Overfitting"]
    assert json.loads(server.files["dropout/rates.table.json"])["ncols"] == 4
    assert any(name.startswith("media/images/overfit/overfitting_") for name in server.files)
