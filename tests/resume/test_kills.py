"""A run that is killed and resumed from its last checkpoint is the run that was not, bit for bit."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.callbacks import ModelCheckpoint

from tests.resume.tiny_run import NUM_BATCHES, NUM_EPOCHS, KillAt, Run, fit, last_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")

KILLS = [random.Random(seed).randrange(1, NUM_BATCHES * NUM_EPOCHS) for seed in (0, 2, 5, 6, 9)]
SETTINGS: dict[str, dict[str, Any]] = {
    "scheduled": {},
    "adaptive": {"adaptive": True, "val_check_interval": 3},
    "accumulated": {"accumulate_grad_batches": 4, "val_check_interval": 3},
}


def savers(folder: Path) -> list[ModelCheckpoint]:
    """Save after every batch and after every validation."""
    folder = folder / "checkpoints"
    often = ModelCheckpoint(folder, "batch-{step}", save_top_k=-1, train_time_interval=timedelta(0))
    return [often, ModelCheckpoint(folder, "validation-{step}", monitor="val_loss", save_top_k=-1)]


@pytest.fixture(scope="module", params=SETTINGS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Run]:
    settings = SETTINGS[request.param]
    return settings, fit(tmp_path_factory.mktemp("whole"), **settings)


def test_runs_have_something_to_compare(whole: tuple[dict[str, Any], Run]) -> None:
    _, run = whole
    _, _, num_steps, batches, masks, rates, weights = zip(*run.steps, strict=True)
    assert len(set(batches)) == len(set(masks)) == NUM_BATCHES * NUM_EPOCHS
    assert len(set(weights)) >= num_steps[-1]
    assert len(set(map(tuple, rates))) > 2


@pytest.mark.parametrize("batch", KILLS)
def test_a_killed_run_goes_on(whole: tuple[dict[str, Any], Run], batch: int, tmp_path: Path) -> None:
    settings, uninterrupted = whole
    killed = fit(tmp_path, *savers(tmp_path), KillAt(batch), **settings)
    assert killed.steps == uninterrupted.steps[:batch]
    resumed = fit(tmp_path, *savers(tmp_path), ckpt_path=last_checkpoint(tmp_path), **settings)
    assert resumed.continues(uninterrupted)
    window = settings.get("accumulate_grad_batches", 1)
    epoch, in_epoch = divmod(batch, NUM_BATCHES)
    saved = epoch * NUM_BATCHES + in_epoch // window * window
    assert len(resumed.steps) == len(uninterrupted.steps) - saved


SIGKILL = """
import os, signal, sys
from pathlib import Path
from tests.resume.test_kills import savers
from tests.resume.tiny_run import KillAt, fit

folder = Path(sys.argv[1])
fit(folder, *savers(folder), KillAt(int(sys.argv[2]), kill=lambda: os.kill(os.getpid(), signal.SIGKILL)))
"""


def test_a_run_goes_on_after_sigkill(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SIGKILL, str(tmp_path), str(KILLS[0])]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, timeout=200)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    resumed = fit(tmp_path, *savers(tmp_path), ckpt_path=last_checkpoint(tmp_path))
    assert resumed.continues(whole := fit(tmp_path))
    assert len(resumed.steps) == len(whole.steps) - KILLS[0]


TWO_RANKS = """
import sys
from pathlib import Path
import torch
from tests.resume.test_kills import KILLS, SETTINGS, savers
from tests.resume.tiny_run import KillAt, fit, last_checkpoint

result = {}
for name in ("adaptive", "accumulated"):
    settings = {**SETTINGS[name], "devices": 2, "strategy": "ddp"}
    folder = Path(name)
    folder.mkdir(exist_ok=True)
    whole = fit(folder, **settings)
    result[name] = [len(set(step[4] for step in whole.steps)), whole.steps[0][4]]
    for batch in KILLS[:3]:
        (folder / str(batch)).mkdir(exist_ok=True)
        fit(folder, *savers(folder / str(batch)), KillAt(batch), **settings)
        torch.distributed.barrier()
        resumed = fit(folder, *savers(folder / str(batch)), ckpt_path=last_checkpoint(folder / str(batch)), **settings)
        result[name].append([resumed.continues(whole), len(whole.steps) - len(resumed.steps) <= batch])
"""


def test_killed_runs_go_on_with_two_ranks(run_ranks: Callable[..., Any]) -> None:
    ranks = run_ranks(TWO_RANKS)
    for name in ("adaptive", "accumulated"):
        (num_masks, masks, *kills), (_, other_masks, *other_kills) = (rank[name] for rank in ranks)
        assert num_masks == NUM_BATCHES * NUM_EPOCHS
        assert masks != other_masks
        assert kills == other_kills == [[True, True]] * 3
