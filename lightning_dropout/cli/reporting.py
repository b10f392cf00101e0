"""``report``: one HTML page about a run, from what it left behind."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_dropout.cli.arguments import Parser
from lightning_dropout.cli.errors import UserError

if TYPE_CHECKING:
    from lightning_dropout.cli.run_records import RunRecords

__all__ = ["report"]


def report(arguments: Sequence[str]) -> int:
    """Write the page.

    Raises:
        UserError: If there is no run, or OverfittingMonitor measured nothing in it, or the page cannot be written.
    """
    options = _parser().parse_args(arguments)
    from lightning_dropout.cli.assembly import guarded

    with guarded():
        page = _page(Path(options.run))
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(page, encoding="utf-8")
    print(f"report: {options.output}")
    return 0


def _parser() -> Parser:
    parser = Parser(
        "report",
        "Write one HTML page about a run: overfitting, dropout rates, findings, configuration. Also of a run that was "
        "killed, from what its loggers kept.",
        [
            ("report runs/char-lm", "the latest run of a recipe"),
            ("report lightning_logs/version_0 --output mine.html", "a run of your own trainer, with CSVLogger"),
            ("report wandb/offline-run-20261120_092752-1pdq00x8", "an offline W&B run"),
        ],
    )
    parser.add_argument("run", metavar="RUN", help="the folder of a run, of several runs, or of an offline W&B run")
    parser.add_argument(
        "--output", metavar="PATH", type=Path, default=Path("report.html"), help="where to write (report.html)"
    )
    return parser


def _page(path: Path) -> str:
    """The page, from the most complete that is there: what the monitor saved, metrics.csv, or a W&B run."""
    from lightning_dropout_callbacks.overfitting_files import read_report
    from lightning_dropout_callbacks.report_page import report_html

    from lightning_dropout.cli.run_folder import latest_version
    from lightning_dropout.cli.run_records import read_csv_logs, read_wandb_run

    if not os.path.exists(path):
        raise UserError(f"there is no {str(path)!r}. Give the folder of a run.")
    folder = latest_version(path)
    if (folder / "report.json").is_file():
        try:
            return report_html(*read_report(folder / "report.json"))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{folder / 'report.json'} is damaged ({error!r}). Remove it to go by metrics.csv."
            ) from error
    if (folder / "metrics.csv").is_file():
        return _rebuilt(read_csv_logs(folder), folder / "metrics.csv")
    files = [path] if path.suffix == ".wandb" else list(folder.rglob("run-*.wandb"))
    if not files:
        raise UserError(f"{path} holds neither report.json, metrics.csv nor run-*.wandb. Give the folder of a run.")
    newest = max(files, key=lambda file: file.stat().st_mtime)
    return _rebuilt(read_wandb_run(newest), newest)


def _rebuilt(records: RunRecords, source: Path) -> str:
    from lightning_dropout_callbacks.report_page import report_html

    history = records.history()
    if not history:
        found = ", ".join(sorted({name for row in records.rows for name in row} - {"step", "epoch"})[:12])
        raise UserError(
            f"{source} holds nothing that OverfittingMonitor measured (found: {found or 'no metrics'}). Train with the "
            "callback OverfittingMonitor."
        )
    facts = {"steps": f"{history[-1].step:,}, at the last measurement", "rebuilt from": str(source)}
    return report_html(history, None, records.configuration(source.parent.name, facts))
