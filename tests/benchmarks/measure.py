"""Measure contenders in turns, and say what came out in a table and in a JSON file."""

from __future__ import annotations

import json
import logging
import os
import platform
import random
import re
import statistics
import sys
import time
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.profiler import profile

PACKAGES = ("torch", "lightning", "torchmetrics", "transformers", "x-transformers", "lightning-dropout")
#: Those that talk.
LIBRARIES = ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "torch._dynamo", "transformers")
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Figure:
    """The median of some measurements and the range of the middle half of them."""

    median: float
    low: float
    high: float
    unit: str = ""

    @classmethod
    def of(cls, values: Sequence[float], unit: str = "") -> Figure:
        quartiles = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
        low, median, high = (float(f"{value:.5g}") for value in quartiles)
        return cls(median, low, high, unit)

    def __str__(self) -> str:
        return f"{self.median:,.4g} ({self.low:,.4g} to {self.high:,.4g}) {self.unit}".rstrip()


def take_turns(
    contenders: Mapping[str, Callable[[], object]], *, num_rounds: int, num_calls: int = 1
) -> dict[str, list[float]]:
    """Seconds per call of every contender, one number per round, in an order that changes from round to round.

    Whatever slows the machine for a while then slows all of them, so that ratios within a round hold still.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(num_rounds):
        for name in random.Random(turn).sample(list(contenders), len(contenders)):
            contenders[name]()  # what ran before has left its own data in the caches
            synchronize()
            start = time.perf_counter()
            for _ in range(num_calls):
                contenders[name]()
            synchronize()
            seconds[name].append((time.perf_counter() - start) / num_calls)
    return seconds


def synchronize() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def milliseconds(seconds: Sequence[float]) -> Figure:
    return Figure.of([1e3 * value for value in seconds], "ms")


def ratio(seconds: Sequence[float], baseline: Sequence[float]) -> Figure:
    """How many times as long as the baseline, round by round."""
    return Figure.of([mine / theirs for mine, theirs in zip(seconds, baseline, strict=True)], "x")


class Report:
    """Prints tables as they come and writes all of them, with what they ran on, to one JSON file if asked for one."""

    def __init__(self, arguments: Namespace, **settings: Any) -> None:
        self._path: Path | None = arguments.json
        self._command = f"python -m tests.benchmarks.{arguments.benchmark}"
        self._settings = {**settings, "threads": torch.get_num_threads(), "quick": arguments.quick}
        self._tables: dict[str, list[dict[str, Any]]] = {}
        self._start = time.perf_counter()

    def add(self, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """A table whose columns are the keys of its rows."""
        self._tables[title] = [
            {name: asdict(cell) if isinstance(cell, Figure) else cell for name, cell in row.items()} for row in rows
        ]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        table = Table(*columns, title=title, title_justify="left")
        for row in rows:
            table.add_row(*(words(row.get(name)) for name in columns))
        Console(width=150).print(table)
        self._write()  # what was measured is kept, should the next table fail

    def _write(self) -> None:
        if self._path is None:
            return
        report = {
            "command": self._command,
            "settings": self._settings,
            "seconds": round(time.perf_counter() - self._start),
            "machine": machine(),
            "versions": versions(),
            "tables": self._tables,
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(report, indent=2) + "\n")


def words(cell: object) -> str:
    if cell is None:
        return ""
    return f"{cell:,.4g}" if isinstance(cell, float) else str(cell)


def machine() -> dict[str, Any]:
    """The machine in words: processor, cores, memory, accelerator."""
    cpu = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*:\s*(.+)", cpu.read_text()) if cpu.exists() else [platform.processor()]
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": names[0],
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "accelerators": gpus,
    }


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def parse(description: str | None, name: str, **options: Mapping[str, Any]) -> Namespace:
    """The arguments that all of these benchmarks have, and ``options``; sets the number of threads."""
    parser = ArgumentParser(description=(description or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few tiny steps, to see that everything runs")
    parser.add_argument("--threads", type=int, default=1, help="threads of each process (default 1)")
    parser.add_argument("--json", type=Path, help="the file to write (default: in results/, none with --quick)")
    for option, keywords in options.items():
        parser.add_argument(f"--{option.replace('_', '-')}", **keywords)
    arguments = parser.parse_args()
    arguments.benchmark = name
    if arguments.json is None and not arguments.quick:
        arguments.json = RESULTS / f"{name}.json"
    torch.set_num_threads(arguments.threads)
    quieten()
    return arguments


def quieten() -> None:
    """Keep the notes and warnings of libraries out of the tables."""
    warnings.filterwarnings("ignore")
    for library in LIBRARIES:
        logging.getLogger(library).setLevel(logging.ERROR)


def device_for(arguments: Namespace) -> torch.device:
    """The GPU where there is one, but not for ``--quick``."""
    return torch.device("cuda" if torch.cuda.is_available() and not arguments.quick else "cpu")


def recorded_events(recorded: profile) -> list[Any]:
    """All that the profiler has noted."""
    assert recorded.profiler is not None
    assert recorded.profiler.kineto_results is not None
    events: list[Any] = recorded.profiler.kineto_results.events()
    return events


def rounds(arguments: Namespace, number: int) -> int:
    return 2 if arguments.quick else number


if __name__ == "__main__":
    sys.exit("Run one of the benchmarks: python -m tests.benchmarks.throughput")
