"""Panels of a figure: curves over training steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lightning_dropout.metrics import overfitting_onset
from lightning_dropout_callbacks.figures import GRID, INK, LINES, TRAIN, VAL
from lightning_dropout_callbacks.overfitting_history import MetricCurves

__all__ = ["draw_best", "draw_curves", "draw_gap", "draw_rates"]

_MAX_NAMES = 3
_LABEL_HEIGHT = 0.47  # inches
_RATES = ("#5b4b8a", "#c8842b", "#3d8b7d", "#a23b72", "#6b7a3a", "#7a7a80")


def draw_curves(axes: Any, curves: MetricCurves, name: str) -> None:
    """Draw a metric on validation data, and on training data with dropout off and, dashed, on."""
    _style(axes, name)
    steps, train, val = curves.steps, curves.train, curves.val
    axes.fill_between(steps, train, val, color=VAL, alpha=0.07, linewidth=0)
    ends = {"validation": (val[-1], VAL), "training data,\ndropout off": (train[-1], TRAIN)}
    if any(noise != 0.0 and not math.isnan(noise) for noise in curves.noise):
        noisy = [value + noise for value, noise in zip(train, curves.noise, strict=True)]
        axes.plot(steps, noisy, color=TRAIN, linewidth=1.2, linestyle=(0, (3, 2)))
        ends["training data,\ndropout on"] = (noisy[-1], TRAIN)
    axes.plot(steps, val, color=VAL, **_line(steps))
    axes.plot(steps, train, color=TRAIN, **_line(steps))
    _label_ends(axes, ends)


def draw_gap(axes: Any, curves: MetricCurves) -> None:
    """Draw the gap."""
    _style(axes, "gap", max_ticks=4)
    steps, gaps = curves.steps, curves.gap
    axes.axhline(0.0, color=INK, linewidth=0.8)
    axes.plot(steps, gaps, color=VAL, **_line(steps))
    for color, is_filled in ((VAL, [gap >= 0 for gap in gaps]), (TRAIN, [gap <= 0 for gap in gaps])):
        axes.fill_between(steps, gaps, where=is_filled, interpolate=True, color=color, alpha=0.2, linewidth=0)
    _label_ends(axes, {"gap": (gaps[-1], VAL)})


def draw_best(panels: Sequence[Any], curves: MetricCurves) -> None:
    """Mark where validation was best, and whether training went on to improve without it."""
    steps, better = curves.steps, max if curves.higher_is_better else min
    known = [(value, step) for value, step in zip(curves.val, steps, strict=True) if not math.isnan(value)]
    if not known:
        return
    best, step = better(known, key=lambda point: point[0])
    onset = overfitting_onset(curves.train, curves.val, steps, higher_is_better=curves.higher_is_better)
    panels[0].plot([step], [best], "o", color=VAL, markersize=7.5, markeredgecolor="white", markeredgewidth=1.5)
    since = ", overfitting since then" if onset is not None else ""
    panels[0].set_title(f"best validation {best:#.4g} at step {step:,}{since}", fontsize=9, color=INK, loc="left")
    for axes in panels if onset is not None else ():
        axes.axvline(onset, color=INK, linewidth=0.9, linestyle=(0, (2, 3)), zorder=1.5)


def draw_rates(axes: Any, steps: Sequence[int], rates: Mapping[tuple[float, ...], Sequence[str]]) -> None:
    """Draw curves of dropout rates, each with the names of what follows it."""
    _style(axes, "dropout rate", max_ticks=4)
    for i, (curve, names) in enumerate(rates.items()):
        label = ", ".join(names[:_MAX_NAMES]) + (f", {len(names) - _MAX_NAMES} more" if names[_MAX_NAMES:] else "")
        axes.plot(steps, curve, color=_RATES[i % len(_RATES)], label=label, **_line(steps))
    highest = max(0.1, *(rate for curve in rates for rate in curve if not math.isnan(rate)))
    axes.set_ylim(-0.02 * highest, 1.6 * highest)  # room for the legend
    axes.legend(frameon=False, labelcolor="linecolor", fontsize=8, ncols=3, loc="upper left", borderaxespad=0.2)


def _label_ends(axes: Any, ends: dict[str, tuple[float, str]]) -> None:
    """Write each curve's name and last value beside its end, apart from each other."""
    low, high = axes.get_ylim()
    names = sorted(ends, key=lambda name: ends[name][0])
    places = [0.5 if math.isnan(ends[name][0]) else (ends[name][0] - low) / (high - low) for name in names]
    apart = _LABEL_HEIGHT / (axes.bbox.height / axes.figure.dpi)
    for i, place in enumerate(places):
        places[i] = max(place, places[i - 1] + apart if i > 0 else apart / 2)
    for i, place in enumerate(places):
        places[i] = min(place, 1.0 - apart / 2 - apart * (len(places) - 1 - i))
    for name, place in zip(names, places, strict=True):
        value, color = ends[name]
        text = f"{name}\n{value:#.4g}"
        axes.text(1.015, place, text, transform=axes.transAxes, color=color, fontsize=8.5, va="center")


def _line(steps: Sequence[int]) -> dict[str, Any]:
    return {"linewidth": 1.8, "marker": "o" if len(steps) <= 12 else "", "markersize": 3.5, "solid_capstyle": "round"}


def _style(axes: Any, ylabel: str, *, max_ticks: int = 8) -> None:
    axes.set_ylabel(ylabel, color=INK)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.yaxis.set_label_coords(-0.1, 0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LINES)
    axes.tick_params(color=LINES, labelcolor=INK, labelsize=8, length=3)
    axes.margins(x=0.015)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.yaxis.get_major_locator().set_params(nbins=max_ticks)
