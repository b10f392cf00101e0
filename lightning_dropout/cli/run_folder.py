"""Where a run left what it made."""

from __future__ import annotations

import os
import re
from pathlib import Path

from lightning_dropout.cli.errors import UserError

__all__ = ["find_checkpoint", "latest_version"]


def latest_version(folder: Path) -> Path:
    """The latest of the runs version_0, version_1, ... in ``folder``, or ``folder`` itself where there are none."""
    versions = {
        int(match[1]): path for path in folder.glob("version_*") if (match := re.fullmatch(r"version_(\d+)", path.name))
    }
    return versions[max(versions)] if versions else folder


def find_checkpoint(path: Path) -> Path:
    """The checkpoint that ``path`` is, or the best or else the newest one of the run in the folder ``path``.

    Raises:
        UserError: If there is none.
    """
    if os.path.isfile(path):
        return path
    if not os.path.isdir(path):
        raise UserError(f"there is no {str(path)!r}. Give a checkpoint, or the folder of a run or of a checkpoint.")
    run = latest_version(path)
    checkpoints = [*run.glob("checkpoints/*.ckpt"), *run.glob("*.ckpt")]
    best = [checkpoint for checkpoint in checkpoints if checkpoint.name == "best.ckpt"]
    if not checkpoints:
        raise UserError(f"{run} holds neither checkpoints/*.ckpt nor a config.json. Give the folder of a run.")
    return max(best or checkpoints, key=lambda checkpoint: checkpoint.stat().st_mtime)
