"""What befalls one of two ranks ends the other in bounded time, and loses nothing that was logged."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

SCRIPT = """
import os, signal, sys
from datetime import timedelta
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader
from lightning_dropout.callbacks import DropoutScheduler, ModeGuard, OverfittingMonitor, RankSeed
from lightning_dropout.schedules import Linear

fault, rank = sys.argv[1], int(os.environ.get("LOCAL_RANK", 0))


class Model(BoringModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(32, 32), nn.Dropout(0.1), nn.Linear(32, 2))

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)["loss"]
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", super().validation_step(batch, batch_idx)["x"])


class Fault(Callback):
    def on_train_start(self, trainer, pl_module):
        # In uneven training, nothing but the timeout tells a rank that nobody is coming; and Lightning 2.6 broadcasts
        # in its handler of SIGTERM, which now and then meets another collective of the other rank.
        torch.distributed.distributed_c10d._set_pg_timeout(timedelta(seconds=20), torch.distributed.group.WORLD)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.fit_loop.total_batch_idx == 5:
            if fault == f"kill rank {rank}":
                os.kill(os.getpid(), signal.SIGKILL)
            if fault == "terminate" and rank == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            if fault == "raise" and rank == 1:
                raise RuntimeError("user")


def data(num_samples, uneven):
    return DataLoader(torch.randn(num_samples - 2 * (rank if uneven else 0), 32), batch_size=2)


trainer = Trainer(
    accelerator="cpu", devices=2, strategy="ddp", max_epochs=2, log_every_n_steps=1, use_distributed_sampler=False,
    logger=CSVLogger(".", name="", version=""), enable_checkpointing=False, enable_progress_bar=False,
    enable_model_summary=False, callbacks=[
        RankSeed(0), ModeGuard(), OverfittingMonitor(2, plot=False), DropoutScheduler(Linear(0.1, 0.5)), Fault()
    ],
)
trainer.fit(Model(), data(8, fault == "uneven training"), data(6, fault == "uneven validation"))
torch.distributed.barrier()
os._exit(0)
"""


class Ended(NamedTuple):
    """Whether the process that was started did what it had to, and the training rows that are in the file then."""

    in_peace: bool
    num_rows: int


FAILED, DONE = False, True
EXPECTED = {
    "kill rank 0": [Ended(FAILED, 5)],
    "kill rank 1": [Ended(FAILED, 5)],
    "terminate": [Ended(DONE, 6), Ended(FAILED, 5), Ended(FAILED, 6)],  # what Lightning raises is a SystemExit
    "raise": [Ended(FAILED, 5)],
    "uneven training": [Ended(FAILED, 3)],
    "uneven validation": [Ended(DONE, 8)],
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """All cases at once, as they mostly wait."""
    root, folder = Path(__file__).parents[2], tmp_path_factory.mktemp("faults")
    (folder / "train.py").write_text(SCRIPT)
    path = os.pathsep.join([str(root), str(root / "callbacks")])
    started: dict[str, subprocess.Popen[bytes]] = {}
    for case in EXPECTED:
        (folder / case).mkdir()
        started[case] = subprocess.Popen(
            [sys.executable, "-W", "ignore", "../train.py", case],
            cwd=folder / case,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    deadline = time.monotonic() + 250
    try:
        codes = {case: process.wait(deadline - time.monotonic()) for case, process in started.items()}
        while any(map(has_members, started.values())) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert [case for case, process in started.items() if has_members(process)] == []
    finally:
        for process in filter(has_members, started.values()):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return {case: Ended(code == 0, num_training_rows(folder / case / "metrics.csv")) for case, code in codes.items()}


def has_members(process: subprocess.Popen[Any]) -> bool:
    """Whether a rank is still there."""
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def num_training_rows(path: Path) -> int:
    with path.open() as file:
        return len([row for row in csv.DictReader(file) if row["train_loss"]])


@pytest.mark.parametrize("case", EXPECTED)
def test_all_ranks_end_and_the_log_is_whole(case: str, ended: dict[str, Ended]) -> None:
    assert ended[case] in EXPECTED[case]
