"""``run RECIPE|FILE.yaml``: from a name to a finished training run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning_dropout.cli.errors import UserError
from lightning_dropout.cli.recipes import find_recipe, recipe_table

__all__ = ["run"]

_HELP = """\
usage: lightning run RECIPE|FILE.yaml [overrides]
       lightning run --list
       (`lightning-dropout run` is the same)

Trains what a YAML file describes. Everything behind its name is a LightningCLI override:

  lightning run char-lm --trainer.max_epochs 3 --model.lr 1e-3
  lightning run char-lm --data.files mine.txt
  lightning run char-lm --run.wandb online
  lightning run char-lm --print_config

`lightning run RECIPE --help` lists all options."""


def run(arguments: Sequence[str]) -> int:
    """Train the recipe that ``arguments`` begin with, under the overrides that follow it.

    Raises:
        UserError: If the recipe, an override or the data cannot be used.
    """
    if not arguments:
        raise UserError("name a recipe or a YAML file. `lightning run --list` lists the recipes.")
    recipe, *overrides = arguments
    if recipe in ("-h", "--help"):
        print(_HELP)
        return 0
    if recipe == "--list":
        print(recipe_table())
        return 0
    if recipe.startswith("-"):
        raise UserError(f"found the option {recipe!r} first. Name the recipe first, then the options.")
    path = find_recipe(recipe)
    from lightning_dropout.cli.training import launch

    return launch(["fit", "--config", str(path), *overrides], name=Path(recipe).stem)
