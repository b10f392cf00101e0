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


def test_a_second_column_is_for_a_metric_that_is_better_the_other_way_round(tmp_path: Path) -> None:
    def width(metrics: dict[str, float]) -> int:
        """Of a picture in which all metrics are higher on validation data, and the gaps are as given."""
        values = {f"overfit/{side}_{name}": x for name in metrics for side, x in (("train", 1.0), ("val", 2.0))}
        values |= {f"overfit/gap_{name}": gap for name, gap in metrics.items()}
        path = tmp_path / "overfitting.png"
        write_overfitting_plot([OverfittingRecord(1, 0, values, {})], path)
        return int.from_bytes(path.read_bytes()[16:20], "big")

    assert width({"loss": 1.0}) == width({"loss": 1.0, "perplexity": 1.0}) == width({"acc": -1.0, "f1": -1.0})
    assert width({"loss": 1.0}) < width({"loss": 1.0, "acc": -1.0}) == width({"acc": -1.0, "f1": -1.0, "loss": 1.0})


def test_pyplot_is_left_alone(tmp_path: Path) -> None:
    import matplotlib
    from matplotlib import pyplot

    before = dict(matplotlib.rcParams), pyplot.get_fignums(), matplotlib.get_backend(auto_select=False)
    write_overfitting_plot(HISTORIES["several"], tmp_path / "overfitting.png")
    assert (dict(matplotlib.rcParams), pyplot.get_fignums(), matplotlib.get_backend(auto_select=False)) == before
