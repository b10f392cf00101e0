"""``recipes list | show | copy``: what to do with the recipes besides running them."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from lightning_dropout.cli.arguments import Parser
from lightning_dropout.cli.errors import UserError
from lightning_dropout.cli.owners import spelled
from lightning_dropout.cli.recipes import find_recipe, recipe_table

__all__ = ["recipes"]

_ACTIONS = {
    "list": ("One line for every recipe.", "recipes list"),
    "show": ("Print a recipe, every key of it with a comment.", "recipes show char-lm"),
    "copy": ("Copy a recipe to a file of your own, to change it.", "recipes copy char-lm ."),
}


def recipes(arguments: Sequence[str]) -> int:
    """List, show or copy recipes.

    Raises:
        UserError: If there is no such recipe, or it cannot be copied there.
    """
    if not arguments or arguments[0] not in _ACTIONS:
        _parser_of_actions().parse_args(arguments[:1])  # prints its help, or refuses
    action, *rest = arguments
    options = _parser(action).parse_args(rest)
    if action == "list":
        print(recipe_table())
    elif action == "show":
        _show(find_recipe(options.recipe))
    else:
        copied = _copy(find_recipe(options.recipe), options.path, force=options.force)
        print(f"copied to {copied}")
        print("next:", spelled(f"lightning run {shlex.quote(copied)}"))
    return 0


def _parser_of_actions() -> Parser:
    parser = Parser("recipes", "List, show or copy recipes.", [(line, does) for does, line in _ACTIONS.values()])
    parser.add_argument("action", choices=list(_ACTIONS), help="what to do; each has its own --help")
    return parser


def _parser(action: str) -> Parser:
    purpose, example = _ACTIONS[action]
    parser = Parser(f"recipes {action}", purpose, [(example, "")])
    if action != "list":
        parser.add_argument("recipe", metavar="RECIPE", help="its name, as in `lightning-dropout recipes list`")
    if action == "copy":
        parser.add_argument("path", metavar="PATH", help="a folder, or the new file")
        parser.add_argument("--force", action="store_true", help="replace the file that is there")
    return parser


def _show(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if not sys.stdout.isatty():
        print(text, end="")
        return
    from rich.console import Console
    from rich.syntax import Syntax

    language = "python" if path.suffix == ".py" else "yaml"
    Console().print(Syntax(text, language, theme="ansi_dark", background_color="default", word_wrap=True))


def _copy(recipe: Path, destination: str, *, force: bool) -> str:
    """Copy the file and return where it is now, as it can be typed."""
    path = Path(destination)
    if os.path.isdir(destination) or destination.endswith("/"):
        path /= recipe.name
    elif path.suffix != recipe.suffix:
        path = path.with_name(path.name + recipe.suffix)  # by its ending `run` takes it for a file
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not force:
            raise UserError(f"{path} is there already. Give another path, or --force to replace it.")
        path.write_text(recipe.read_text(encoding="utf-8"), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}). Give another path.") from None
    return str(path) if path.is_absolute() or path.parts[0] == ".." else f"./{path}"
