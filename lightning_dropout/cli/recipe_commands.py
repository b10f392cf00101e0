"""``recipes list``: what to do with the recipes besides running them."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_dropout.cli.errors import UserError
from lightning_dropout.cli.recipes import recipe_table

__all__ = ["recipes"]

_HELP = """\
usage: lightning-dropout recipes list

  lightning-dropout recipes list    one line for every recipe"""


def recipes(arguments: Sequence[str]) -> int:
    """Print the table of recipes.

    Raises:
        UserError: If anything else is asked for.
    """
    if list(arguments) in (["-h"], ["--help"]):
        print(_HELP)
        return 0
    if list(arguments) != ["list"]:
        raise UserError(f"recipes: found {' '.join(arguments)!r}. Say `lightning-dropout recipes list`.")
    print(recipe_table())
    return 0
