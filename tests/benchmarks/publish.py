"""Write ``README.md`` beside this file: every table of every benchmark, from what lies in ``results``.

python -m tests.benchmarks.publish
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from tests.benchmarks import ablations, adaptive, learning
from tests.benchmarks.measure import RESULTS, Figure, words
from tests.benchmarks.runs import load
from tests.benchmarks.tasks import TASKS

README = RESULTS.with_name("README.md")

INTRODUCTION = """\
# Benchmarks

Written by `python -m tests.benchmarks.publish` from the files in [results](results). Figures of time are medians of
rounds in which all contenders take turns, with the range of the middle half of the rounds; ratios are taken within a
round. Figures of learning are means over seeds with 95% confidence intervals (Student's t); differences are paired by
seed. `--quick` runs those with a module name (`python -m`) in small.
"""

#: What is measured in one go, in the order of the page.
MEASURED = ("one_graph", "callback_cost", "throughput", "generation", "memory", "distributed")


def page(folder: Path = RESULTS) -> str:
    """The whole of ``README.md``."""
    return "\n".join([INTRODUCTION, *measured(folder), *learned(folder)])


def measured(folder: Path) -> Iterator[str]:
    """Tables of time and memory."""
    for name in MEASURED:
        path = folder / f"{name}.json"
        if path.exists():
            report = json.loads(path.read_text())
            yield f"## `{report['command']}`\n"
            yield f"{_on(report)}\n"
            for title, rows in report["tables"].items():
                yield from (f"**{title}**\n", _from_rows(rows))


def learned(folder: Path) -> Iterator[str]:
    """Tables of losses."""
    runs = load(folder / "learning.jsonl")
    for shape in learning.SHAPES:
        yield from _section(
            f"python -m tests.benchmarks.learning tinyshakespeare.txt --shape {shape}", learning.tables(runs, shape)
        )
    yield from _section("python -m tests.benchmarks.ablations", ablations.tables(load(folder / "ablations.jsonl")))
    runs = load(folder / "adaptive.jsonl")
    methods = [*adaptive.CONTROLLED, *adaptive.FIXED]
    done = {(run.task, run.method) for run in runs}
    tasks = [task for task in TASKS if all((task, rate) in done for rate in adaptive.FIXED)]  # the best is of them all
    yield from _section("python -m tests.benchmarks.adaptive", adaptive.tables(runs, tasks, methods))


def _section(command: str, tables: Iterable[Table]) -> Iterator[str]:
    tables = list(tables)
    if tables:
        yield f"## `{command}`\n"
    for grid in tables:
        yield f"**{grid.title}**\n"
        yield _markdown(
            [str(column.header) for column in grid.columns], zip(*(c.cells for c in grid.columns), strict=True)
        )


def _on(report: Mapping[str, Any]) -> str:
    machine, settings = report["machine"], report["settings"]
    device = ", ".join(machine["accelerators"]) or f"{machine['processor']}, {machine['cores']} cores"
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    others = {name: value for name, value in settings.items() if name != "quick"}
    return f"{device}; {versions}; {', '.join(f'{name}: {_plain(value)}' for name, value in others.items())}."


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}={item}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _from_rows(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_cell(row.get(name)) for name in columns] for row in rows]
    return _markdown(columns, cells)


def _cell(value: object) -> str:
    return str(Figure(**value)) if isinstance(value, dict) else words(value)


def _markdown(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


if __name__ == "__main__":
    README.write_text(page())
