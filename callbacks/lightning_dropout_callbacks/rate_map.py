"""A heat map of dropout rates: every site over training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_dropout_callbacks.figures import INK, LINES, new_figure, write_png
from lightning_dropout_callbacks.overfitting_history import OverfittingRecord

__all__ = ["rate_map_figure", "write_rate_map"]

_MAX_COLUMNS, _MAX_LABELS = 400, 40


def write_rate_map(history: Sequence[OverfittingRecord], path: Path) -> None:
    """Write a picture: the rate of every site as it was measured at every validation, in the order of the model.

    Raises:
        ImportError: Without matplotlib.
    """
    write_png(rate_map_figure(history), path)


def rate_map_figure(history: Sequence[OverfittingRecord]) -> Any:
    """One row per site, one column per validation, as wide as the steps before it.

    Raises:
        ImportError: Without matplotlib.
    """
    history = history[:: -(-len(history) // _MAX_COLUMNS)]
    names = list(dict.fromkeys(name for record in history for name in record.site_rates))
    rates = [[record.site_rates.get(name, math.nan) for record in history] for name in names]
    steps = [record.step for record in history]
    edges = [max(2 * steps[0] - steps[1], 0) if len(steps) > 1 else steps[0] - 1, *steps]
    panel_height = min(max(0.19 * len(names), 0.8), 7.5)  # in inches, as are the margins below
    width, height = 7.8, panel_height + 0.85
    figure = new_figure(width, height)
    label_width = min(0.065 * max(map(len, names), default=0), 3.0) + 0.25
    axes = figure.add_axes(
        (label_width / width, 0.5 / height, (width - label_width - 1.0) / width, panel_height / height)
    )
    highest = max((rate for row in rates for rate in row if not math.isnan(rate)), default=0.0)
    colors = axes.pcolormesh(edges, range(len(names) + 1), rates, cmap="Purples", vmin=0.0, vmax=max(highest, 0.1))
    colors.set_rasterized(True)
    axes.invert_yaxis()
    every = -(-len(names) // _MAX_LABELS)
    axes.set_yticks([row + 0.5 for row in range(0, len(names), every)], [_short(name) for name in names[::every]])
    axes.set_xlabel("training step", color=INK)
    axes.set_title("dropout rates", fontsize=9, color=INK, loc="left")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.tick_params(color=LINES, labelcolor=INK, labelsize=8, length=3)
    axes.spines[:].set_color(LINES)
    bar_width = 0.14 / width
    bar = figure.colorbar(
        colors, cax=figure.add_axes((1 - 0.8 / width, 0.5 / height, bar_width, panel_height / height))
    )
    bar.outline.set_color(LINES)
    bar.ax.tick_params(color=LINES, labelcolor=INK, labelsize=8, length=3)
    return figure


def _short(name: str) -> str:
    return name if len(name) <= 46 else f"...{name[-43:]}"
