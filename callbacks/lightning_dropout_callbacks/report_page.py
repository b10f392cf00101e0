"""One HTML page about a run, with nothing to load: pictures are in it, scripts there are none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from lightning_dropout_callbacks.figures import svg
from lightning_dropout_callbacks.overfitting_history import OverfittingRecord, measured_metrics, metric_curves
from lightning_dropout_callbacks.overfitting_plot import overfitting_figure
from lightning_dropout_callbacks.overfitting_verdict import STATES, find_onset, judged_loss
from lightning_dropout_callbacks.rate_map import rate_map_figure
from lightning_dropout_callbacks.run_configuration import RunConfiguration

__all__ = ["report_html"]

_MAX_ROWS = 200

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #2b2b2e; max-width: 64rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: 0 } h2 { font-size: 1.1rem; margin-top: 2.5rem }
svg { width: 100%; height: auto; max-width: 50rem; display: block; margin: 1rem 0 }
div { overflow-x: auto } table { border-collapse: collapse; font-size: 13px }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #ececf0; vertical-align: top }
th { font-weight: 600; color: #6a6a70 } td { font-variant-numeric: tabular-nums; overflow-wrap: anywhere }
summary { cursor: pointer; color: #2f6690 }
"""

_VERDICTS = {
    "underfit": "The model underfits: validation still improves, and the gap is small.",
    "fit": "The model fits: it neither overfits nor is held back.",
    "overfit": "The model overfits: validation has stopped improving, and the gap is large.",
}


def report_html(
    history: Sequence[OverfittingRecord], findings: Sequence[str] | None, configuration: RunConfiguration
) -> str:
    """The page. Without matplotlib it has tables in the place of pictures.

    Args:
        history: What the overfitting monitor measured; may be empty.
        findings: What the mode guard found; None where there was no guard, or nothing of it is left.
        configuration: What the run was started with.

    Example:
        >>> values = {"overfit/train_loss": 1.0, "overfit/val_loss": 2.0, "overfit/gap_loss": 1.0}
        >>> page = report_html([OverfittingRecord(10, 0, values, {})], [], RunConfiguration("Classifier"))
        >>> "<h1>Classifier</h1>" in page, "nothing found" in page, "<script" in page
        (True, True, False)
    """
    title = escape(configuration.title)
    parts = [
        f"<h1>{title}</h1>",
        _table([], configuration.facts.items()),
        *(_measurements(history) if history else ["<p>Nothing was measured.</p>"]),
        _section("Dropout in training and evaluation", _findings(findings)),
        *_configuration(configuration),
    ]
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    return "\n".join(["<!doctype html>", f'<html lang="en"><head>{head}</head><body>', *parts, "</body></html>", ""])


def _measurements(history: Sequence[OverfittingRecord]) -> Iterable[str]:
    loss = judged_loss(history)
    yield _section("Overfitting", f"<p>{_verdict(history, loss)}</p>", _summary(history))
    metrics = measured_metrics(history)
    has_sites = any(record.site_rates for record in history)
    try:
        yield from (svg(overfitting_figure(history, [metric])) for metric in metrics)
        if has_sites:
            yield _section("Dropout rates", svg(rate_map_figure(history)))
    except ImportError:
        yield "<p>Pictures need matplotlib: pip install 'lightning-dropout[recipes]'</p>"
        if has_sites:
            yield _section("Dropout rates", _rates(history))
    yield _section("All measurements", _folded(f"{len(history)} validations", _values(history)))


def _verdict(history: Sequence[OverfittingRecord], loss: str | None) -> str:
    number = history[-1].values.get("overfit/state")
    said = [_VERDICTS[label] for label, value in STATES.items() if value == number]
    onset = None if loss is None else find_onset(history, loss)
    if onset is not None:
        said.append(f"Overfitting set in at step {onset:,}: since then only training improved.")
    return " ".join(said)


def _summary(history: Sequence[OverfittingRecord]) -> str:
    rows = []
    for metric in measured_metrics(history):
        curves = metric_curves(history, metric)
        better = max if curves.higher_is_better else min
        known = [i for i, value in enumerate(curves.val) if not math.isnan(value)]
        best = better(known, key=lambda i: curves.val[i], default=-1)
        last = [curve[-1] for curve in (curves.val, curves.train, curves.gap)]
        slope = history[-1].values.get(f"overfit/slope_{metric}", math.nan)
        best_step = f"{curves.val[best]:.4g} at step {curves.steps[best]:,}" if known else ""
        rows.append([metric, best_step, curves.gap[best], *last, slope, curves.noise[-1]])
    header = ["", "best validation", "gap there", "validation, last", "training data, dropout off", "gap"]
    return _table([*header, "gap per 1,000 steps", "dropout noise"], rows)


def _values(history: Sequence[OverfittingRecord]) -> str:
    records = history[:: -(-len(history) // _MAX_ROWS)]
    names = list(dict.fromkeys(name for record in history for name in record.values))
    rows = [[record.step, record.epoch, *(record.values.get(name, math.nan) for name in names)] for record in records]
    return _table(["step", "epoch", *(name.removeprefix("overfit/") for name in names)], rows)


def _rates(history: Sequence[OverfittingRecord]) -> str:
    first, last = history[0], history[-1]
    rows = [[name, first.site_rates.get(name, math.nan), rate] for name, rate in last.site_rates.items()]
    return _table(["site", f"step {first.step:,}", f"step {last.step:,}"], rows)


def _findings(findings: Sequence[str] | None) -> str:
    if findings is None:
        return "<p>Not known: there was no ModeGuard, or what it found was not kept.</p>"
    items = "".join(f"<li>{escape(finding)}</li>" for finding in findings)
    return f"<ul>{items}</ul>" if findings else "<p>ModeGuard: nothing found.</p>"


def _configuration(configuration: RunConfiguration) -> Iterable[str]:
    if configuration.hyperparameters:
        yield _section("Hyperparameters", _table([], configuration.hyperparameters.items()))
    if configuration.sites:
        table = _table(["site", "kind", "base rate"], configuration.sites)
        yield _section("Dropout sites", _folded(f"{len(configuration.sites)} sites", table))
    if configuration.callbacks:
        yield _section("Callbacks", _table([], ([callback] for callback in configuration.callbacks)))


def _section(title: str, *parts: str) -> str:
    return "\n".join([f"<h2>{escape(title)}</h2>", *parts])


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def _table(header: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f"<div><table>{f'<tr>{head}</tr>' if header else ''}\n{body}</table></div>"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}"
    return escape(str(value))
