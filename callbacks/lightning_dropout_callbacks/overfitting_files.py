"""What the overfitting monitor leaves in the log folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from lightning_dropout_callbacks.overfitting_history import OverfittingRecord
from lightning_dropout_callbacks.overfitting_plot import write_overfitting_plot
from lightning_dropout_callbacks.rate_map import write_rate_map
from lightning_dropout_callbacks.report_page import report_html
from lightning_dropout_callbacks.run_configuration import RunConfiguration, SiteRow
from lightning_dropout_callbacks.trials import Trials

__all__ = ["OverfittingFiles", "read_report"]


class OverfittingFiles:
    """Writes pictures and a report; what cannot be written is named once, and training goes on."""

    def __init__(self, folder: Path, trials: Trials) -> None:
        #: The pictures there are.
        self.pictures: list[Path] = []
        #: The report, once it is written.
        self.report: Path | None = None
        self._folder, self._trials = folder, trials
        self._failed: set[str] = set()

    def draw(self, history: Sequence[OverfittingRecord]) -> None:
        """Draw ``overfitting.png`` anew, and ``dropout_rates.png`` if rates have changed."""
        self._draw("overfitting.png", write_overfitting_plot, history)
        if any(record.site_rates != history[0].site_rates for record in history):
            self._draw("dropout_rates.png", write_rate_map, history)

    def write_report(
        self,
        history: Sequence[OverfittingRecord],
        findings: Sequence[str] | None,
        describe: Callable[[], RunConfiguration],
    ) -> None:
        """Write ``report.html``, and ``report.json`` with all that is in it."""

        def write() -> None:
            configuration = describe()
            content = {
                "history": _as_plain(history),
                "findings": None if findings is None else list(findings),
                "configuration": configuration._asdict(),
            }
            _replace(self._folder / "report.json", json.dumps(content))
            report = self._folder / "report.html"
            _replace(report, report_html(history, findings, configuration))
            self.report = report

        self._try("write report.html", write)

    def _draw(
        self,
        name: str,
        write: Callable[[Sequence[OverfittingRecord], Path], None],
        history: Sequence[OverfittingRecord],
    ) -> None:
        path = self._folder / name

        def draw() -> None:
            write(history, path)
            if path not in self.pictures:
                self.pictures.append(path)

        self._try(f"draw {name}", draw)

    def _try(self, what: str, write: Callable[[], None]) -> None:
        if what in self._failed:
            return
        try:
            write()
        except ImportError:
            if not self._failed:
                rank_zero_info("No overfitting.png without matplotlib: pip install 'lightning-dropout[recipes]'")
            self._failed.add(what)
        except Exception as error:
            self._failed.add(what)
            self._trials.name(what, f"{type(error).__name__}: {error}")


def read_report(path: Path) -> tuple[list[OverfittingRecord], list[str] | None, RunConfiguration]:
    """What ``report.json`` holds, as ``report_html`` takes it."""
    content = json.loads(path.read_text(encoding="utf-8"))
    history: list[OverfittingRecord] = []
    for fields in content["history"]:
        fields["site_rates"] = history[-1].site_rates if fields["site_rates"] is None else fields["site_rates"]
        history.append(OverfittingRecord(**fields))
    configuration = content["configuration"]
    configuration["sites"] = [SiteRow(*row) for row in configuration["sites"]]
    return history, content["findings"], RunConfiguration(**configuration)


def _as_plain(history: Sequence[OverfittingRecord]) -> list[dict[str, Any]]:
    """Records as dicts; rates of sites that are as they were are left out."""
    before = [None, *(record.site_rates for record in history)]
    return [
        {**record._asdict(), "site_rates": None if record.site_rates == last else record.site_rates}
        for record, last in zip(history, before, strict=False)
    ]


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)
