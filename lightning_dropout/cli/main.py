"""The console script ``lightning-dropout``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pkgutil import resolve_name
from typing import NamedTuple

from lightning_dropout.cli.errors import UserError
from lightning_dropout.cli.owners import taken_by

__all__ = ["main", "report"]


class _Command(NamedTuple):
    purpose: str
    example: str
    function: (
        str  # module:function, imported when it is called; takes the arguments behind the name, returns the exit code
    )


_COMMANDS = {
    "run": _Command(
        "train a recipe, a YAML file or a script", "char-lm --trainer.max_epochs 3", "lightning_dropout.cli.run:run"
    ),
    "recipes": _Command(
        "list, show or copy the recipes", "copy char-lm .", "lightning_dropout.cli.recipe_commands:recipes"
    ),
    "inspect": _Command(
        "the dropout sites of a model, which of them fire, and an audit",
        "char-lm",
        "lightning_dropout.cli.inspection:inspect",
    ),
    "preview": _Command("draw the dropout schedules of a recipe", "char-lm", "lightning_dropout.cli.preview:preview"),
    "generate": _Command(
        "write text with a trained model",
        'runs/char-lm --prompt "Fellow citizens"',
        "lightning_dropout.cli.generation:generate",
    ),
    "report": _Command(
        "one HTML page about a run, from its folder or its W&B run",
        "runs/char-lm",
        "lightning_dropout.cli.reporting:report",
    ),
    "fit": _Command(
        "LightningCLI: train any LightningModule", "--config my.yaml", "lightning_dropout.cli.training:fit"
    ),
    "validate": _Command(
        "LightningCLI: score a checkpoint on the validation data",
        "--config my.yaml --ckpt_path best.ckpt",
        "lightning_dropout.cli.training:validate",
    ),
    "test": _Command(
        "LightningCLI: score a checkpoint on the test data",
        "--config my.yaml --ckpt_path best.ckpt",
        "lightning_dropout.cli.training:test",
    ),
    "predict": _Command(
        "LightningCLI: predict with a checkpoint",
        "--config my.yaml --ckpt_path best.ckpt",
        "lightning_dropout.cli.training:predict",
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 0, 2 for bad input."""
    return report("lightning-dropout", _dispatch, sys.argv[1:] if arguments is None else arguments)


def report(program: str, command: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """Run ``command``; a user error becomes one line on stderr and exit code 2."""
    try:
        return command(arguments)
    except UserError as error:
        print(f"{program}: {_rank()}{error}", file=sys.stderr)
        return 2


def _rank() -> str:
    """Which of several processes speaks, from 1 on: all of them may have the same to say."""
    ranks = (os.environ.get(name) for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"))
    rank = next((rank for rank in ranks if rank is not None), "0")
    return "" if rank == "0" else f"rank {rank}: "


def _dispatch(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0
    name, *rest = arguments
    if name not in _COMMANDS:
        near = get_close_matches(name, _COMMANDS, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else "See `lightning-dropout --help`."
        raise UserError(f"there is no command {name!r}. {hint}")
    function: Callable[[Sequence[str]], int] = resolve_name(_COMMANDS[name].function)
    return function(rest)


def _help() -> str:
    lines = ["usage: lightning-dropout COMMAND ...", ""]
    for name, command in _COMMANDS.items():
        lines += [f"  {name:<9} {command.purpose}", f"            lightning-dropout {name} {command.example}"]
    lines += ["", "`lightning-dropout COMMAND --help` says more about one of them."]
    if owner := taken_by():
        lines.append(
            f"`lightning` belongs to {owner} here: where others say `lightning run`, say `lightning-dropout run`."
        )
    return "\n".join(lines)
