"""Pictures of dropout rates over training progress, as PNG and as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning_dropout_callbacks.figures import GRID, INK, LINES, TRAIN, new_figure, write_png

__all__ = ["RateCurve", "sketch", "write_schedule_plot"]

_BLOCKS = " ▁▂▃▄▅▆▇█"


class RateCurve(NamedTuple):
    """The lowest and the highest rate of a group of sites, at equal steps of progress from 0 to 1."""

    title: str
    low: Sequence[float]
    high: Sequence[float]


def sketch(values: Sequence[float], *, num_rows: int = 5) -> list[str]:
    """The values as a column chart from 0 to their maximum, one column for each.

    Example:
        >>> print(*sketch([0.0, 0.1, 0.2, 0.1], num_rows=2), sep=chr(10))
         0.2 │  █
           0 │ ███
             └────
    """
    top = max(values)
    eighths = [round(8 * num_rows * value / top) if top > 0.0 else 0 for value in values]
    labels = {num_rows - 1: f"{top:.3g}", 0: "0"}
    lines = []
    for row in reversed(range(num_rows)):
        columns = "".join(_BLOCKS[min(max(height - 8 * row, 0), 8)] for height in eighths)
        lines.append(f"{labels.get(row, ''):>4} │{columns}".rstrip())
    return [*lines, f"{'':>4} └{'─' * len(values)}"]


def write_schedule_plot(curves: Sequence[RateCurve], path: Path) -> None:
    """Write a picture with a panel for each curve; a band where the rates of its sites differ.

    Raises:
        ImportError: Without matplotlib.
    """
    width, panel_height = 7.6, 1.7
    height = panel_height * len(curves) + 0.6
    figure = new_figure(width, height)
    grid = figure.add_gridspec(
        len(curves), 1, left=0.6 / width, right=1 - 0.25 / width, bottom=0.5 / height, top=1 - 0.3 / height, hspace=0.5
    )
    for row, curve in enumerate(curves):
        _draw(figure.add_subplot(grid[row]), curve, is_last=row == len(curves) - 1)
    write_png(figure, path)


def _draw(panel: Any, curve: RateCurve, *, is_last: bool) -> None:
    progress = [i / (len(curve.high) - 1) for i in range(len(curve.high))]
    panel.plot(progress, curve.high, color=TRAIN)
    if list(curve.low) != list(curve.high):
        panel.plot(progress, curve.low, color=TRAIN)
        panel.fill_between(progress, curve.low, curve.high, color=TRAIN, alpha=0.2, linewidth=0)
    panel.set_title(curve.title, fontsize=9, color=INK, loc="left")
    panel.set_xlim(0.0, 1.0)
    panel.set_ylim(0.0, 1.1 * max(curve.high) or 0.1)
    panel.set_ylabel("rate", fontsize=8, color=INK)
    panel.grid(color=GRID)
    panel.set_axisbelow(True)
    panel.tick_params(color=LINES, labelcolor=INK, labelsize=8, length=3, labelbottom=is_last)
    panel.spines[:].set_color(LINES)
    panel.spines[["top", "right"]].set_visible(False)
    if is_last:
        panel.set_xlabel("progress of training", fontsize=8, color=INK)
