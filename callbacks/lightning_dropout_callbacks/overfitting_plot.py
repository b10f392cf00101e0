"""Draw what the overfitting monitor has measured."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from lightning_dropout.metrics import overfitting_onset
from lightning_dropout_callbacks.overfitting_history import OverfittingRecord, measured_metrics

__all__ = ["write_overfitting_plot"]

_MAX_NAMES = 3
_TRAIN, _VAL, _INK, _LINES, _GRID = "#2f6690", "#d1495b", "#3a3a3c", "#b8b8be", "#ececf0"
_RATES = ("#5b4b8a", "#c8842b", "#3d8b7d", "#a23b72", "#6b7a3a", "#7a7a80")


def write_overfitting_plot(history: Sequence[OverfittingRecord], path: Path) -> None:
    """Write a picture: train against validation, the gap, and the dropout rates beneath, over training steps.

    Shows the loss, or the first metric, and beside it the first one that is better the other way round, such as an
    accuracy. Leaves the global state of ``matplotlib.pyplot`` alone.

    Raises:
        ImportError: Without matplotlib.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    metrics = _shown_metrics(history)
    rates = _rate_curves(history)
    heights = [3.0, 1.2, 1.2] if rates else [3.0, 1.2]  # in inches, as are the margins below
    width, height = 0.2 + 7.6 * len(metrics), sum(heights) + 0.25 * len(heights) + 0.75
    figure = Figure(figsize=(width, height), dpi=130, facecolor="white")
    FigureCanvasAgg(figure)
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
        panels = [figure.add_subplot(grid[0, column])]
        panels += [figure.add_subplot(grid[row, column], sharex=panels[0]) for row in range(1, len(heights))]
        _draw_curves(panels[0], history, metric)
        _draw_gap(panels[1], history, metric)
        _draw_best(panels[:2], history, metric)
        if rates:
            _draw_rates(panels[2], history, rates)
        for panel in panels[:-1]:
            panel.tick_params(labelbottom=False)
        panels[-1].set_xlabel("training step", color=_INK)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    figure.savefig(unfinished, format="png")
    os.replace(unfinished, path)


def _shown_metrics(history: Sequence[OverfittingRecord]) -> list[str]:
    first, *others = measured_metrics(history)
    opposite = (name for name in others if _is_higher_better(history, name) != _is_higher_better(history, first))
    return [first, *islice(opposite, 1)]


def _is_higher_better(history: Sequence[OverfittingRecord], metric: str) -> bool:
    """What the sign of the gap says."""
    _, train, val, gaps = _series(history, metric)
    return any(gap * (v - t) < 0 for t, v, gap in zip(train, val, gaps, strict=True))


def _draw_curves(axes: Any, history: Sequence[OverfittingRecord], metric: str) -> None:
    _style(axes, metric)
    steps, train, val, _ = _series(history, metric)
    axes.fill_between(steps, train, val, color=_VAL, alpha=0.07, linewidth=0)
    axes.plot(steps, val, color=_VAL, **_line(steps))
    axes.plot(steps, train, color=_TRAIN, **_line(steps))
    _label_ends(axes, {"validation": (val[-1], _VAL), "training data,\ndropout off": (train[-1], _TRAIN)})


def _draw_gap(axes: Any, history: Sequence[OverfittingRecord], metric: str) -> None:
    _style(axes, "gap", max_ticks=4)
    steps, _, _, gaps = _series(history, metric)
    axes.axhline(0.0, color=_INK, linewidth=0.8)
    axes.plot(steps, gaps, color=_VAL, **_line(steps))
    for color, is_filled in ((_VAL, [gap >= 0 for gap in gaps]), (_TRAIN, [gap <= 0 for gap in gaps])):
        axes.fill_between(steps, gaps, where=is_filled, interpolate=True, color=color, alpha=0.2, linewidth=0)
    _label_ends(axes, {"gap": (gaps[-1], _VAL)})


def _draw_best(panels: Sequence[Any], history: Sequence[OverfittingRecord], metric: str) -> None:
    """Mark where validation was best, and whether training went on to improve without it."""
    steps, train, val, _ = _series(history, metric)
    is_higher_better = _is_higher_better(history, metric)
    known = [(value, step) for value, step in zip(val, steps, strict=True) if not math.isnan(value)]
    if not known:
        return
    best, step = max(known, key=lambda point: point[0]) if is_higher_better else min(known)
    onset = overfitting_onset(train, val, steps, higher_is_better=is_higher_better)
    panels[0].plot([step], [best], "o", color=_VAL, markersize=7.5, markeredgecolor="white", markeredgewidth=1.5)
    since = ", overfitting since then" if onset is not None else ""
    panels[0].set_title(f"best validation {best:#.4g} at step {step:,}{since}", fontsize=9, color=_INK, loc="left")
    for axes in panels if onset is not None else ():
        axes.axvline(onset, color=_INK, linewidth=0.9, linestyle=(0, (2, 3)), zorder=1.5)


def _label_ends(axes: Any, ends: dict[str, tuple[float, str]]) -> None:
    """Write each curve's name and last value beside its end, apart from each other."""
    low, high = axes.get_ylim()
    placed = -1.0
    for name, (value, color) in sorted(ends.items(), key=lambda end: end[1][0]):
        place = 0.5 if math.isnan(value) else (value - low) / (high - low)
        placed = max(place, placed + 0.16)
        text = f"{name}\n{value:#.4g}"
        axes.text(1.015, placed, text, transform=axes.transAxes, color=color, fontsize=8.5, va="center")


def _draw_rates(axes: Any, history: Sequence[OverfittingRecord], rates: dict[tuple[float, ...], list[str]]) -> None:
    _style(axes, "dropout rate", max_ticks=4)
    steps = [record.step for record in history]
    for i, (curve, names) in enumerate(rates.items()):
        label = ", ".join(names[:_MAX_NAMES]) + (f", {len(names) - _MAX_NAMES} more" if names[_MAX_NAMES:] else "")
        axes.plot(steps, curve, color=_RATES[i % len(_RATES)], label=label, **_line(steps))
    highest = max(0.1, *(rate for curve in rates for rate in curve if not math.isnan(rate)))
    axes.set_ylim(-0.02 * highest, 1.6 * highest)  # room for the legend
    axes.legend(frameon=False, labelcolor="linecolor", fontsize=8, ncols=3, loc="upper left", borderaxespad=0.2)


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


def _series(
    history: Sequence[OverfittingRecord], metric: str
) -> tuple[list[int], list[float], list[float], list[float]]:
    """Steps, training values, validation values and gaps of a metric."""
    records = [record for record in history if f"overfit/gap_{metric}" in record.values]
    train, val, gaps = (
        [value if math.isfinite(value := record.values[f"overfit/{side}_{metric}"]) else math.nan for record in records]
        for side in ("train", "val", "gap")
    )
    return [record.step for record in records], train, val, gaps


def _line(steps: Sequence[int]) -> dict[str, Any]:
    return {"linewidth": 1.8, "marker": "o" if len(steps) <= 12 else "", "markersize": 3.5, "solid_capstyle": "round"}


def _style(axes: Any, ylabel: str, *, max_ticks: int = 8) -> None:
    axes.set_ylabel(ylabel, color=_INK)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.yaxis.set_label_coords(-0.1, 0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_LINES)
    axes.tick_params(color=_LINES, labelcolor=_INK, labelsize=8, length=3)
    axes.margins(x=0.015)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.yaxis.get_major_locator().set_params(nbins=max_ticks)
