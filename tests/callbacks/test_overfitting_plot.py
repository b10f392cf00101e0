from __future__ import annotations

import math
from pathlib import Path

import pytest
from lightning_dropout_callbacks.overfitting_history import OverfittingRecord
from lightning_dropout_callbacks.overfitting_plot import write_overfitting_plot


def record(
    step: int, metrics: dict[str, tuple[float, float]], rates: dict[str, float] | None = None
) -> OverfittingRecord:
    values = {}
    for name, (train, val) in metrics.items():
        values |= {f"overfit/train_{name}": train, f"overfit/val_{name}": val, f"overfit/gap_{name}": val - train}
    return OverfittingRecord(step, 0, values, rates or {})


HISTORIES = {
    "one": [record(1, {"loss": (1.0, 2.0)})],
    "overfitting": [
        record(i, {"loss": (2.0 - i / 10, 2.0 + abs(i - 3))}, {"ff": i / 10, "attn": 0.1}) for i in range(10)
    ],
    "several": [record(i, {"loss": (1.0, 2.0), "acc": (0.9, 0.8), "f1": (1.0, i)}, {"ff": 0.0}) for i in range(3)],
    "not finite": [record(1, {"loss": (math.nan, math.inf)}), record(2, {"loss": (1.0, math.nan)})],
    "metric that comes late": [record(1, {"loss": (1.0, 2.0)}), record(2, {"loss": (1.0, 2.0), "acc": (0.5, 0.5)})],
    "site that comes late": [record(1, {"loss": (1.0, 2.0)}), record(2, {"loss": (1.0, 2.0)}, {"ff": 0.5})],
}


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)
def test_every_history_can_be_drawn(history: list[OverfittingRecord], tmp_path: Path) -> None:
    path = tmp_path / "new" / "overfitting.png"
    write_overfitting_plot(history, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert list(path.parent.iterdir()) == [path]


def test_a_column_is_added_for_each_of_three_metrics(tmp_path: Path) -> None:
    def width(num_metrics: int) -> int:
        path = tmp_path / "overfitting.png"
        write_overfitting_plot([record(1, {f"m{i}": (1.0, 2.0) for i in range(num_metrics)})], path)
        return int.from_bytes(path.read_bytes()[16:20], "big")

    assert width(1) < width(2) < width(3) == width(5)


def test_pyplot_is_left_alone(tmp_path: Path) -> None:
    import matplotlib
    from matplotlib import pyplot

    before = dict(matplotlib.rcParams), pyplot.get_fignums(), matplotlib.get_backend(auto_select=False)
    write_overfitting_plot(HISTORIES["several"], tmp_path / "overfitting.png")
    assert (dict(matplotlib.rcParams), pyplot.get_fignums(), matplotlib.get_backend(auto_select=False)) == before
