"""What the callbacks cost on one and two processes: the time of training steps, and the collectives they add.

    python -m tests.benchmarks.distributed

Fits with all callbacks and fits without any take turns under ``ddp``. Then one fit of each runs under the profiler,
which counts every call of a collective, also those that DistributedDataParallel makes in the backward pass.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from torch.profiler import ProfilerActivity, profile

from tests.benchmarks.callback_cost import CALLBACKS, NUM_FIRST, STEPS, Clock, all_callbacks, fit, hidden_layers
from tests.benchmarks.measure import Report, milliseconds, parse, ratio, recorded_events, rounds

STEP = "5 ms"


class Collectives(Callback):
    """Counts collectives from one training batch to the next, validations and ends of epochs apart."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.validations: list[int] = []
        self._recorded: profile | None = None
        self._validates = False

    def on_train_batch_start(self, *_: Any) -> None:
        self._close()
        self._recorded = profile(activities=[ProfilerActivity.CPU])
        self._recorded.start()

    def on_validation_start(self, *_: Any) -> None:
        self._validates = True

    def on_train_end(self, *_: Any) -> None:
        self._close()

    def _close(self) -> None:
        if self._recorded is not None:
            self._recorded.stop()
            (self.validations if self._validates else self.steps).append(num_collectives(self._recorded))
        self._recorded, self._validates = None, False


def num_collectives(recorded: profile) -> int:
    return sum(event.name().startswith("c10d::") for event in recorded_events(recorded))


def measure(quick: bool, num_rounds: int) -> dict[str, Any]:
    """What one rank has measured."""
    (width, batch_size), num_steps = STEPS[STEP], 100
    if quick:
        width, batch_size, num_steps = 8, 2, 8
    step_seconds: dict[str, list[float]] = {"none": [], "all": []}
    for turn in range(num_rounds):
        for which in sorted(step_seconds, reverse=turn % 2 == 0):
            clock = Clock()
            fit(hidden_layers(width), batch_size, num_steps, CALLBACKS[which](), clock=clock, strategy="ddp")
            step_seconds[which].append(statistics.fmean(clock.steps[NUM_FIRST:]))
    counted = {}
    for which in step_seconds:
        counts = Collectives()
        fit(hidden_layers(8), 2, 8, CALLBACKS[which](), clock=counts, num_validations=2, strategy="ddp")
        counted[which] = {"steps": counts.steps, "validations": counts.validations}
    return {"seconds": step_seconds, "collectives": counted}


def on_ranks(num_ranks: int, arguments: Namespace) -> dict[str, Any]:
    """What rank 0 of ``num_ranks`` has measured."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "figures.json")
        subprocess.run(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_ranks)),
                *("--module", "tests.benchmarks.distributed", "--json", str(path)),
                *(["--quick"] if arguments.quick else []),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": str(arguments.threads)},
        )
        figures: dict[str, Any] = json.loads(path.read_text())
    return figures


def row(num_ranks: int, figures: dict[str, Any]) -> dict[str, Any]:
    seconds, collectives = figures["seconds"], figures["collectives"]

    def both(count: str, steps: slice) -> str:
        numbers = [Counter(collectives[which][count][steps]).most_common(1)[0][0] for which in ("none", "all")]
        return f"{numbers[0]} / {numbers[1]}"

    first = [sum(collectives[which]["steps"][:NUM_FIRST]) for which in ("none", "all")]
    return {
        "processes": num_ranks,
        "step, none": milliseconds(seconds["none"]),
        "step, all": milliseconds(seconds["all"]),
        "all against none": ratio(seconds["all"], seconds["none"]),
        "collectives a step": both("steps", slice(NUM_FIRST, None)),
        f"in the first {NUM_FIRST} steps": f"{first[0]} / {first[1]}",
        "in a validation and the end of an epoch": both("validations", slice(1, None)),
    }


def main() -> None:
    arguments = parse(__doc__, "distributed")
    if "RANK" in os.environ:
        figures = measure(arguments.quick, rounds(arguments, 12))
        if os.environ["RANK"] == "0":
            arguments.json.write_text(json.dumps(figures))
        torch.distributed.barrier()
        os._exit(0)  # gloo's threads can abort a normal exit
    report = Report(arguments, callbacks=[type(callback).__name__ for callback in all_callbacks()])
    title = "without callbacks / with all, steps of about 5 ms on one process"
    report.add(title, [row(num_ranks, on_ranks(num_ranks, arguments)) for num_ranks in (1, 2)])


if __name__ == "__main__":
    main()
