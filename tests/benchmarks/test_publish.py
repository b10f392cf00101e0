from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import mean

from tests.benchmarks import publish
from tests.benchmarks.measure import RESULTS
from tests.benchmarks.runs import load, pick

ROOT = Path(__file__).parents[2]


def test_the_page_is_what_the_results_say() -> None:
    assert publish.README.read_text() == publish.page(), "run python -m tests.benchmarks.publish"


def test_every_table_of_a_result_is_on_the_page(tmp_path: Path) -> None:
    report = {
        "command": "python -m tests.benchmarks.memory",
        "settings": {"shape": {"dim": 8}, "threads": 1, "quick": False},
        "machine": {"processor": "a processor", "cores": 2, "accelerators": []},
        "versions": {"python": "3.11"},
        "tables": {"some title": [{"model": "x", "step": {"median": 2.0, "low": 1.0, "high": 3.0, "unit": "ms"}}]},
    }
    (tmp_path / "memory.json").write_text(json.dumps(report))
    run = {"task": "diabetes", "seed": 0, "loss": 0.5, "seconds": 1.0}
    methods = ("none", "constant", "early", "late", "curriculum", "adaptive")
    lines = [json.dumps({**run, "method": method}) for method in methods]
    (tmp_path / "ablations.jsonl").write_text("\n".join(lines))
    page = publish.page(tmp_path)
    assert "## `python -m tests.benchmarks.memory`" in page
    assert "a processor, 2 cores; python 3.11; shape: dim=8, threads: 1." in page
    assert "**some title**\n\n| model | step |\n| --- | --- |\n| x | 2 (1 to 3) ms |" in page
    assert "| curriculum | 0.5000 | +0.0000 | 1 |" in page


def test_the_losses_in_the_readme_are_those_of_the_runs() -> None:
    """Of tiny Shakespeare: three decimals of a mean, in a row that begins with the method."""
    results = load(RESULTS / "learning.jsonl")
    table = (ROOT / "README.md").read_text().split("tests.benchmarks.learning")[1].split("\n\n**")[0]
    rows = re.findall(r"^\| ([^|]+) \| (\d\.\d{3}) ", table, flags=re.MULTILINE)
    assert len(rows) == len({run.method for run in results})
    for method, shown in rows:
        losses = pick(results, "cpu", method, "loss").values()
        assert len(losses) == 5
        assert f"{mean(losses):.3f}" == shown
