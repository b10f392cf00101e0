"""What a run's loggers kept of it, read back as the report takes it."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from lightning_dropout_callbacks.overfitting_history import OverfittingRecord, extended
from lightning_dropout_callbacks.run_configuration import RunConfiguration, SiteRow

from lightning_dropout.cli.errors import UserError, one_line

__all__ = ["RunRecords", "read_csv_logs", "read_wandb_run"]

_MAX_LENGTH = 300
# Of LightningCLI, of this package and of W&B: what is no hyperparameter.
_NOT_HYPERPARAMETERS = {"trainer", "run", "ckpt_path", "optimizer", "lr_scheduler", "weights_only", "seed_everything"}


class RunRecords(NamedTuple):
    """Logged rows, each a mapping with a ``step``, and the configuration."""

    rows: Sequence[Mapping[str, Any]]
    config: Mapping[str, Any]

    def history(self) -> list[OverfittingRecord]:
        """What OverfittingMonitor logged, with the dropout rates that were logged last before each measurement.

        A logger counts steps from 0, the monitor those that were done.
        """
        rates = [(row["step"], found) for row in self.rows if (found := _of_section(row, "dropout/"))]
        rates.sort(key=lambda item: item[0])
        steps = [step for step, _ in rates]
        history: list[OverfittingRecord] = []
        for row in self.rows:
            values = {f"overfit/{name}": value for name, value in _of_section(row, "overfit/").items()}
            if any(name.startswith("overfit/gap_") for name in values):
                before = bisect_right(steps, row["step"])
                found = rates[before - 1][1] if before else {}
                shown = {name: rate for name, rate in found.items() if not name.endswith(("/min", "/max"))}
                record = OverfittingRecord(int(row["step"]) + 1, int(row.get("epoch", 0)), values, shown, shown)
                history = extended(history, record)
        return history

    def configuration(self, title: str, facts: Mapping[str, str]) -> RunConfiguration:
        """The configuration in words; ``title`` is for runs that do not say what they trained."""
        parts = [part for name in ("model", "data") if isinstance(part := self.config.get(name), dict)]
        settings = [part.get("init_args") or {} for part in parts] or [self.config]
        if parts and "class_path" in parts[0]:
            title = parts[0]["class_path"].rpartition(".")[2]
        callbacks = (self.config.get("trainer") or {}).get("callbacks") or []
        sites = self.config.get("dropout_sites") or {}
        return RunConfiguration(
            title,
            facts,
            {
                name: str(value)[:_MAX_LENGTH]
                for setting in settings
                for name, value in setting.items()
                if name not in _NOT_HYPERPARAMETERS and not name.startswith(("_", "dropout_"))
            },
            [SiteRow(name, site["kind"], site.get("rate", site.get("rate_max", 0.0))) for name, site in sites.items()],
            [_described(callback) for callback in callbacks if isinstance(callback, dict)],
        )


def read_csv_logs(folder: Path) -> RunRecords:
    """metrics.csv of a CSVLogger, and config.yaml or hparams.yaml beside it."""
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = [{name: _as_number(text) for name, text in row.items() if text} for row in csv.DictReader(file)]
    config: dict[str, Any] = {}
    for name in ("hparams.yaml", "config.yaml"):
        with suppress(FileNotFoundError, yaml.YAMLError):  # hyperparameters may be objects of any kind
            found = yaml.safe_load((folder / name).read_text(encoding="utf-8"))
            config = found if isinstance(found, dict) else config
    return RunRecords([row for row in rows if isinstance(row.get("step"), float)], config)


def read_wandb_run(file: Path) -> RunRecords:
    """The file of an offline W&B run, through W&B's own reader.

    Raises:
        UserError: If W&B cannot read it.
    """
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    read = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    if read.returncode != 0:
        reason = (one_line(read.stderr) or one_line(read.stdout))[-_MAX_LENGTH:]
        raise UserError(f"W&B cannot read {file} ({reason}). A newer one may: pip install --upgrade wandb.")
    rows: list[dict[str, Any]] = []
    config: dict[str, Any] = {}
    for line in read.stdout.splitlines():
        record = json.loads(line)
        if record["type"] == "history":
            item = record["history"]["item"]
            is_media = any(name.endswith("._type") for name in item)  # a picture or a table, in numbers about it
            if isinstance(step := item.get("trainer/global_step"), int | float) and not is_media:
                rows.append({**item, "step": step})
        elif record["type"] == "config":
            config |= record["config"].get("update") or {}
    return RunRecords(rows, config)


def _of_section(row: Mapping[str, Any], prefix: str) -> dict[str, float]:
    return {
        name.removeprefix(prefix): float(value)
        for name, value in row.items()
        if name.startswith(prefix) and isinstance(value, int | float)
    }


def _as_number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _described(callback: Mapping[str, Any]) -> str:
    given: Iterable[tuple[str, Any]] = (callback.get("init_args") or {}).items()
    arguments = ", ".join(f"{name}={value!r}" for name, value in given if value is not None)
    return f"{str(callback.get('class_path')).rpartition('.')[2]}({arguments})"[:_MAX_LENGTH]
