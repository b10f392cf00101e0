"""What all tests share."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: several processes share the cores

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


# gloo's threads can abort a normal exit.
_ENDING = """
import json, os, torch
with open(f"rank{os.environ.get('LOCAL_RANK', 0)}.json", "w") as file:
    json.dump(result, file)
if torch.distributed.is_initialized():
    torch.distributed.barrier()
os._exit(0)
"""


@pytest.fixture(scope="session")
def run_ranks(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Any]]:
    """Runs a script that trains on several ranks; returns what each of them has in ``result`` at its end.

    It is a script because ddp in the process of a test would run pytest again on rank 1. It runs in ``folder``, and can
    import the modules of tests that are beside ``beside``.
    """

    def run(script: str, *arguments: str, folder: Path | None = None, beside: str | None = None) -> list[Any]:
        folder = folder or tmp_path_factory.mktemp("ranks")
        (folder / "script.py").write_text(script + _ENDING)
        root = Path(__file__).parents[1]
        paths = [str(root), str(root / "callbacks"), *([str(Path(beside).parent)] if beside else [])]
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "script.py", *arguments],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        try:
            _, errors = process.communicate(timeout=280)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # the other ranks, too
                process.wait()
        assert process.returncode == 0, errors[-3000:]
        return [json.loads(path.read_text()) for path in sorted(folder.glob("rank*.json"))]

    return run
