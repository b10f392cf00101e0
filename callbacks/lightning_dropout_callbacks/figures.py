"""Figures without ``matplotlib.pyplot``, whose global state belongs to the user."""

from __future__ import annotations

import os
from io import StringIO
from pathlib import Path
from typing import Any

__all__ = ["GRID", "INK", "LINES", "TRAIN", "VAL", "new_figure", "svg", "write_png"]

TRAIN, VAL, INK, LINES, GRID = "#2f6690", "#d1495b", "#3a3a3c", "#b8b8be", "#ececf0"


def new_figure(width: float, height: float) -> Any:
    """An empty figure, measured in inches.

    Raises:
        ImportError: Without matplotlib.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=130, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def write_png(figure: Any, path: Path) -> None:
    """Write a picture, so that who reads it meanwhile sees the old one or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    figure.savefig(unfinished, format="png")
    os.replace(unfinished, path)


def svg(figure: Any) -> str:
    """The figure as an ``<svg>`` element."""
    text = StringIO()
    figure.savefig(text, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return text.getvalue()[text.getvalue().index("<svg") :]
