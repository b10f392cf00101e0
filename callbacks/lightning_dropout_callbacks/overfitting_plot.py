"""Draw what the overfitting monitor has measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from lightning_dropout_callbacks.curve_panels import draw_best, draw_curves, draw_gap, draw_rates
from lightning_dropout_callbacks.figures import INK, new_figure, write_png
from lightning_dropout_callbacks.overfitting_history import OverfittingRecord, measured_metrics, metric_curves

__all__ = ["overfitting_figure", "write_overfitting_plot"]


def write_overfitting_plot(history: Sequence[OverfittingRecord], path: Path) -> None:
    """Write a picture: train against validation, the gap, and the dropout rates beneath, over training steps.

    Shows the loss, or the first metric, and beside it the first one that is better the other way round, such as an
    accuracy. Leaves the global state of ``matplotlib.pyplot`` alone.

    Raises:
        ImportError: Without matplotlib.
    """
    write_png(overfitting_figure(history, _shown_metrics(history), rates=_rate_curves(history)), path)


def overfitting_figure(
    history: Sequence[OverfittingRecord],
    metrics: Sequence[str],
    *,
    rates: dict[tuple[float, ...], list[str]] | None = None,
) -> Any:
    """A column of panels for each metric; ``rates`` are curves of dropout rates, and the sites that follow them.

    Raises:
        ImportError: Without matplotlib.
    """
    heights = [3.0, 1.2, 1.2] if rates else [3.0, 1.2]  # in inches, as are the margins below
    width, height = 0.2 + 7.6 * len(metrics), sum(heights) + 0.25 * len(heights) + 0.75
    figure = new_figure(width, height)
    grid = figure.add_gridspec(
        len(heights),
        len(metrics),
        height_ratios=heights,
        left=0.9 / width,
        right=1 - 1.3 / width,
        bottom=0.5 / height,
        top=1 - 0.35 / height,
        hspace=0.12,
        wspace=0.35,
    )
    for column, metric in enumerate(metrics):
        curves = metric_curves(history, metric)
        panels = [figure.add_subplot(grid[0, column])]
        panels += [figure.add_subplot(grid[row, column], sharex=panels[0]) for row in range(1, len(heights))]
        draw_curves(panels[0], curves, metric)
        draw_gap(panels[1], curves)
        draw_best(panels[:2], curves)
        if rates:
            draw_rates(panels[2], [record.step for record in history], rates)
        for panel in panels[:-1]:
            panel.tick_params(labelbottom=False)
        panels[-1].set_xlabel("training step", color=INK)
    return figure


def _shown_metrics(history: Sequence[OverfittingRecord]) -> list[str]:
    first, *others = measured_metrics(history)
    is_higher_better = metric_curves(history, first).higher_is_better
    opposite = (name for name in others if metric_curves(history, name).higher_is_better != is_higher_better)
    return [first, *islice(opposite, 1)]


def _rate_curves(history: Sequence[OverfittingRecord]) -> dict[tuple[float, ...], list[str]]:
    """Site groups by their rates over time, so that groups that move together are drawn once.

    Leaves out what was never on, unless nothing was, and what all names start with.
    """
    paths = {name: name.split(".") for name in history[-1].rates}
    parents = zip(*(path[:-1] for path in paths.values()), strict=False)
    num_shared = len(list(takewhile(lambda parts: len(set(parts)) == 1, parents)))
    curves: dict[tuple[float, ...], list[str]] = {}
    for name, path in paths.items():
        curve = tuple(record.rates.get(name, math.nan) for record in history)
        curves.setdefault(curve, []).append(".".join(path[num_shared:]))
    return {curve: group for curve, group in curves.items() if max(curve[-1], *curve) > 0.0} or curves
