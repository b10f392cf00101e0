"""Training runs of a benchmark: each is done once, kept at once, and averaged over seeds."""

from __future__ import annotations

import json
import math
import platform
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev

import torch
from rich.console import Console
from rich.table import Table

from tests.benchmarks.measure import quieten

Figures = Mapping[str, float]
Measure = Callable[["Run"], Figures]


@dataclass(frozen=True)
class Run:
    task: str
    method: str
    seed: int


Results = dict[Run, Figures]


def complete(runs: Iterable[Run], measure: Measure, *, path: Path, num_workers: int = 1) -> Results:
    """The figures of all ``runs``: those in the file as they stand there, the others measured and added to it."""
    results = load(path)
    missing = [run for run in runs if run not in results]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        for run, figures in _measured(missing, measure, num_workers):
            results[run] = figures
            file.write(json.dumps({**asdict(run), **figures}) + "\n")
            file.flush()
            print(f"{run.task}, {run.method}, seed {run.seed}: {_words(figures)}", file=sys.stderr, flush=True)
    return {run: results[run] for run in runs}


def load(path: Path) -> Results:
    results: Results = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        row = json.loads(line)
        results[Run(row.pop("task"), row.pop("method"), row.pop("seed"))] = row
    return results


def _measured(runs: Sequence[Run], measure: Measure, num_workers: int) -> Iterable[tuple[Run, Figures]]:
    if num_workers == 1:
        _prepare()
        for run in runs:
            yield run, _timed(measure, run)
        return
    with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn"), initializer=_prepare) as pool:
        futures = {pool.submit(_timed, measure, run): run for run in runs}
        for future in as_completed(futures):
            yield futures[future], future.result()


def _prepare() -> None:
    torch.set_num_threads(1)
    quieten()


def _timed(measure: Measure, run: Run) -> Figures:
    start = time.process_time()  # of the one thread, so that it does not depend on what else the machine does
    figures = measure(run)
    return {**figures, "seconds": round(time.process_time() - start, 1)}


def _words(figures: Figures) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half the width of its 95% confidence interval (Student's t); no width is known for one value."""
    from scipy.stats import t  # type: ignore[import-untyped, unused-ignore]

    if len(values) < 2:
        return mean(values), math.nan
    return mean(values), t.ppf(0.975, len(values) - 1) * stdev(values) / math.sqrt(len(values))


def pick(results: Results, task: str, method: str, figure: str) -> dict[int, float]:
    """One figure of one method by seed."""
    return {run.seed: row[figure] for run, row in results.items() if (run.task, run.method) == (task, method)}


def table(
    results: Results, task: str, methods: Sequence[str], *, figures: Sequence[str], baseline: str, title: str
) -> Table:
    """Mean and 95% interval of every figure, and of the first its difference to the baseline, paired by seed."""
    first = figures[0]
    reference = pick(results, task, baseline, first)
    grid = Table("method", *figures, f"{first} - {baseline}", "seeds", title=title)
    for method in methods:
        values = pick(results, task, method, first)
        cells = [_cell(*interval(list(pick(results, task, method, figure).values()))) for figure in figures]
        paired = [value - reference[seed] for seed, value in values.items() if seed in reference]
        difference = "" if method == baseline or not paired else _cell(*interval(paired), sign="+")
        grid.add_row(method, *cells, difference, str(len(values)))
    return grid


def _cell(center: float, half_width: float, sign: str = "") -> str:
    return f"{center:{sign}.4f}" + ("" if math.isnan(half_width) else f" ± {half_width:.4f}")


def show(*tables: Table) -> None:
    console = Console(width=120)
    for grid in tables:
        console.print(grid)


def write_json(path: Path, results: Results, *, command: str) -> None:
    """All runs, with what they ran on."""
    rows = [{**asdict(run), **figures} for run, figures in results.items()]
    machine = {"machine": platform.machine(), "python": platform.python_version(), "torch": torch.__version__}
    text = ",\n  ".join(json.dumps(row) for row in rows)
    path.write_text(f'{{"command": {json.dumps(command)}, "on": {json.dumps(machine)}, "runs": [\n  {text}\n]}}\n')


def parser(description: str | None, name: str) -> ArgumentParser:
    """The arguments that all of these benchmarks have."""
    arguments = ArgumentParser(description=description)
    arguments.add_argument("--seeds", type=int, default=5, help="number of seeds, from 0 (default 5)")
    arguments.add_argument("--workers", type=int, default=1, help="processes, one thread each (default 1)")
    arguments.add_argument("--quick", action="store_true", help="a few steps each: shows that everything runs")
    arguments.add_argument(
        "--runs", type=Path, default=Path("runs", "benchmarks", f"{name}.jsonl"), help="file of the runs done so far"
    )
    arguments.add_argument("--json", type=Path, help="write all figures to this file")
    return arguments


def finish(arguments: Namespace, results: Results, *tables: Table) -> None:
    show(*tables)
    if arguments.json:
        write_json(arguments.json, results, command=f"python -m {_module()} {' '.join(sys.argv[1:])}".strip())


def _module() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec else Path(sys.argv[0]).name
