"""The table of recipes, and the runs behind it.

    python tests/benchmarks/recipe_table.py                       recipes/README.md from recipes/results.json
    python tests/benchmarks/recipe_table.py --run image-cnn ddp   measures these recipes again first
    python tests/benchmarks/recipe_table.py --run all --workplace FOLDER

``results.json`` says which commands there are and what each came to. A command runs in full, one after the other, with
W&B disabled; a recipe that reads what another one leaves finds it in the same workplace.
"""

from __future__ import annotations

import csv
import json
import os
import re
import resource
import shlex
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import fill
from time import time
from typing import Any

from PIL import Image

FOLDER = Path(__file__).parents[2] / "recipes"
RESULTS, README = FOLDER / "results.json", FOLDER / "README.md"
PICTURE_WIDTH = 1000

INTRODUCTION = """\
# Recipes

One file each, with a comment on every key. `lightning run --list` lists them; `lightning-dropout run` is the same as
`lightning run`. Everything behind the name overrides a key of the file: `--data.path`, `--data.files` or
`--model.network.folder` for data and checkpoints of your own. `lightning-dropout recipes copy NAME .` gives you a
copy to edit, and `lightning run ./NAME.yaml` runs it.

"""


def main() -> None:
    """Measure what was asked for, then write the table."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", nargs="+", default=[], metavar="RECIPE", help="recipes to measure again, or all")
    parser.add_argument("--workplace", type=Path, help="where they run; by default a temporary folder")
    arguments = parser.parse_args()
    with TemporaryDirectory() as temporary:
        workplace = arguments.workplace or Path(temporary)
        workplace.mkdir(parents=True, exist_ok=True)
        for index, entry in sorted(enumerate(read()), key=lambda pair: not pair[1].get("main", False)):
            if entry["recipe"] in arguments.run or arguments.run == ["all"]:
                try:
                    measured, picture = measure(entry, workplace)
                except RuntimeError as error:
                    print(error, file=sys.stderr)
                    continue
                entries = read()  # another process may have written its own meanwhile
                entries[index]["measured"] = measured
                RESULTS.write_text(json.dumps(entries, indent=2) + "\n")
                if picture is not None and "picture" in entry:
                    shrink(picture, FOLDER / entry["picture"])
    README.write_text(table(read()))


def read() -> list[dict[str, Any]]:
    """All commands, with what they came to."""
    entries: list[dict[str, Any]] = json.loads(RESULTS.read_text())
    return entries


def measure(entry: dict[str, Any], workplace: Path) -> tuple[dict[str, Any], Path | None]:
    """Run a command in full; its figures, and its picture."""
    _, *arguments = shlex.split(entry["command"])
    start, before = time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    print(entry["command"], flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "lightning_dropout", *arguments],
        cwd=workplace,
        env={**os.environ, "WANDB_MODE": "disabled"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{entry['command']} ended with {done.returncode}:\n{done.stdout}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    metrics = max(workplace.rglob("metrics.csv"), key=lambda path: path.stat().st_mtime)
    if metrics.stat().st_mtime < start:
        raise RuntimeError(f"{entry['command']} wrote no metrics.csv")
    picture = metrics.with_name("overfitting.png")
    measured = {
        **figures(metrics),
        "seconds": round(time() - start),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime),
        "says": [line for pattern in entry.get("quote", []) for line in quoted(pattern, done.stdout)],
    }
    print(json.dumps(measured), flush=True)
    return measured, picture if picture.exists() else None


def figures(metrics: Path) -> dict[str, Any]:
    """The lowest validation loss, what was logged beside it, where the loss ended, and the last gap."""
    with metrics.open() as file:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    validations = [row for row in rows if "val_loss" in row]
    best = min(validations, key=lambda row: row["val_loss"])
    gaps = [row["overfit/gap_loss"] for row in rows if "overfit/gap_loss" in row]
    found = {"best": best["val_loss"], "last": validations[-1]["val_loss"], "gap": gaps[-1]}
    if "val_accuracy" in best:
        found["accuracy"] = best["val_accuracy"]
    steps = int(max(row["step"] for row in rows)) + 1
    return {"steps": steps, **{name: round(value, 4) for name, value in found.items()}}


def quoted(pattern: str, output: str) -> Iterator[str]:
    """What the lines of the output say from ``pattern`` on, each once."""
    matches = (re.search(f"{pattern}.*", line) for line in output.splitlines())
    yield from dict.fromkeys(match[0].rstrip() for match in matches if match)


def shrink(picture: Path, target: Path) -> None:
    """Small enough for a repository: fewer pixels, and a palette."""
    image = Image.open(picture).convert("RGB")
    height = round(image.height * PICTURE_WIDTH / image.width)
    small = image.resize((PICTURE_WIDTH, height), Image.Resampling.LANCZOS)
    small.quantize(48, dither=Image.Dither.NONE).save(target, optimize=True)


def table(entries: Iterable[dict[str, Any]]) -> str:
    """The contents of recipes/README.md."""
    entries = [entry for entry in entries if "measured" in entry]
    lines = [
        "| recipe | command | time | validation loss, lowest | last | gap, last | accuracy |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [row(entry) for entry in entries]
    notes = (
        "Every row is one run with seed 42, so that small differences say little: a variant within .01 or so of its "
        "recipe is no better and no worse. Losses are nats per character, passage or image, and squared standard "
        "deviations for `tabular-mlp`. The gap is validation loss minus training loss, both with dropout off."
    )
    if any(is_cpu_time(entry) for entry in entries):
        notes += " Times with a star are CPU time: the cores were busy with other work."
    parts = [INTRODUCTION + "\n".join(lines), fill(notes, 120)]
    for entry in entries:
        says = entry["measured"].get("says", [])
        if says:
            parts.append(f"`{entry['command']}` also prints\n\n```text\n" + "\n".join(says) + "\n```")
        if "picture" in entry:
            parts.append(f"`{entry['command']}`: {entry['caption']}\n\n![{entry['shows']}]({entry['picture']})")
    return "\n\n".join(parts) + "\n"


def row(entry: dict[str, Any]) -> str:
    """One line of the table."""
    measured, file = entry["measured"], entry["recipe"]
    file = file if file.endswith(".py") else f"{file}.yaml"
    name = f"[{entry['recipe']}]({file}): {entry['shows']}" if entry.get("main", False) else f"... {entry['shows']}"
    figures = [f"{measured[key]:.3f}" if key in measured else "" for key in ("best", "last", "gap", "accuracy")]
    return f"| {name} | `{entry['command']}` | {clock(entry)} | {' | '.join(figures)} |"


def clock(entry: dict[str, Any]) -> str:
    """Time on the clock, or CPU time where there was no core for each of its threads."""
    seconds = entry["measured"]["cpu_seconds" if is_cpu_time(entry) else "seconds"]
    text = f"{seconds} s" if seconds < 100 else f"{seconds / 60:.1f} min"
    return text + "*" * is_cpu_time(entry)


def is_cpu_time(entry: dict[str, Any]) -> bool:
    """Whether the command had to wait for a core, so that the time on the clock says nothing."""
    measured = entry["measured"]
    return bool(measured["cpu_seconds"] < 0.6 * measured["seconds"])


if __name__ == "__main__":
    main()
