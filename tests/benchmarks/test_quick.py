"""Every benchmark in small: that it runs, and what does not depend on how fast the machine is."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.benchmarks import callback_cost, distributed, generation, memory, one_graph, throughput
from tests.benchmarks.measure import Figure, Report, parse, ratio, take_turns

pytestmark = pytest.mark.filterwarnings("ignore")

Tables = dict[str, list[dict[str, Any]]]


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tables]:
    """Runs a benchmark with ``--quick`` and returns the tables that it wrote."""

    def run(main: Callable[[], None], *arguments: str) -> Tables:
        path = tmp_path / "figures.json"
        monkeypatch.setattr(sys, "argv", ["benchmark", "--quick", "--json", str(path), *arguments])
        main()
        torch.compiler.reset()
        tables: Tables = json.loads(path.read_text())["tables"]
        return tables

    return run


def test_a_schedule_compiles_no_graph_more_and_falls_back_nowhere(tables: Callable[..., Tables]) -> None:
    (rows,) = tables(one_graph.main).values()
    by_method = {row["rates"]: row for row in rows}
    assert by_method["constant"]["graphs"] == by_method["SiteWriter"]["graphs"] == 1
    assert by_method["constant"]["steps in eager"] == by_method["SiteWriter"]["steps in eager"] == 0
    assert by_method["nn.Dropout.p set"]["graphs"] > 1


def test_a_step_of_all_callbacks_has_no_more_operations_at_ten_times_as_many_sites(
    tables: Callable[..., Tables],
) -> None:
    cost = tables(callback_cost.main)
    few, many = ([row for row in cost["host work"] if row["sites"] == number] for number in (10, 100))
    for operations in ("tensor operations a step", "of them writes to rates"):
        assert [row[operations] for row in few] == [row[operations] for row in many]
    contenders = ["none", "six empty", "six hollow", "all but AdaptiveDropout", "all six"]
    assert [row["callbacks"] for row in cost["training steps"]] == contenders * len(callback_cost.STEPS)


def test_callbacks_add_no_collective_to_a_step(tables: Callable[..., Tables]) -> None:
    (rows,) = tables(distributed.main).values()
    assert [row["processes"] for row in rows] == [1, 2]
    for row in rows:
        without, with_all = row["collectives a step"].split(" / ")
        assert int(without) == int(with_all) > 0


def test_throughput_is_that_of_every_contender(tables: Callable[..., Tables]) -> None:
    groups = tables(throughput.main, "--eager")
    assert len(groups) == 5
    for rows in groups.values():
        assert rows[0]["model"] == "ours"
        assert rows[0]["time against ours"]["median"] == 1.0
        assert all(row["a second"]["median"] > 0 for row in rows)


def test_generation_chooses_the_tokens_of_hugging_face(tables: Callable[..., Tables]) -> None:
    (rows,) = tables(generation.main).values()
    assert len(rows) == 8
    assert all(row["same tokens"] for row in rows)


def test_dropout_costs_memory(tables: Callable[..., Tables]) -> None:
    peaks = tables(memory.main)
    assert all(row["on, MiB"] > row["off, MiB"] > 0 for row in peaks["a training step"])
    assert [row["context"] for row in peaks["attention"]] == [8, 16]


def test_the_peak_is_the_most_that_is_held_at_once() -> None:
    def step() -> None:
        for _ in range(3):
            first = torch.zeros(1000)
            del first
        second = torch.zeros(500)
        torch.add(second, 1)

    if torch.cuda.is_available():
        pytest.skip("the peak is read from the allocator of the GPU")
    assert memory.peak_bytes(step) == pytest.approx(4000, abs=100), "and a number that is added is a tensor, too"


def test_contenders_take_turns_and_ratios_are_taken_within_a_round() -> None:
    calls: list[str] = []
    seconds = take_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, num_rounds=3, num_calls=2)
    assert calls.count("a") == calls.count("b") == 9, "one call to warm up and two that are timed, three times"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3}
    assert ratio([2.0, 30.0, 4.0], [1.0, 10.0, 1.0]) == Figure(3.0, 2.5, 3.5, "x")


def test_a_report_says_what_it_ran_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", "--json", str(tmp_path / "some.json")])
    report = Report(parse("Words.", "some"), size=3)
    report.add("title", [{"name": "x", "time": Figure.of([1.0, 2.0, 3.0], "ms")}])
    written = json.loads((tmp_path / "some.json").read_text())
    assert written["settings"]["size"] == 3
    assert written["tables"]["title"][0]["time"]["median"] == 2.0
    assert {"processor", "cores"} <= set(written["machine"])
    assert written["versions"]["torch"] == torch.__version__
