"""The console script ``lightning-dropout``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches

from lightning_dropout.cli.errors import UserError
from lightning_dropout.cli.recipes import recipe_table
from lightning_dropout.cli.run import run

__all__ = ["main", "report"]

_TRAINER_COMMANDS = ("fit", "validate", "test", "predict")
_HELP = """\
usage: lightning-dropout COMMAND ...

  run       train a recipe or a YAML file       lightning-dropout run char-lm --trainer.max_epochs 3
  recipes   list the recipes                    lightning-dropout recipes list
  fit, validate, test, predict                  lightning-dropout fit --config my.yaml
            LightningCLI, for any LightningModule and LightningDataModule

`lightning-dropout COMMAND --help` says more about one of them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 0, 2 for bad input."""
    return report("lightning-dropout", _dispatch, sys.argv[1:] if arguments is None else arguments)


def report(program: str, command: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """Run ``command``; a user error becomes one line on stderr and exit code 2."""
    try:
        return command(arguments)
    except UserError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2


def _dispatch(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_HELP)
        return 0
    command, *rest = arguments
    if command == "run":
        return run(rest)
    if command == "recipes":
        return _recipes(rest)
    if command in _TRAINER_COMMANDS:
        from lightning_dropout.cli.training import launch

        return launch(arguments, name=command)
    near = get_close_matches(command, ["run", "recipes", *_TRAINER_COMMANDS], n=1)
    hint = f"Did you mean {near[0]!r}?" if near else "See `lightning-dropout --help`."
    raise UserError(f"there is no command {command!r}. {hint}")


def _recipes(arguments: Sequence[str]) -> int:
    if list(arguments) != ["list"]:
        raise UserError(f"recipes: found {' '.join(arguments)!r}. Say `lightning-dropout recipes list`.")
    print(recipe_table())
    return 0
