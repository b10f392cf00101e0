"""Where the recipes are, in a checkout as well as in an installed wheel."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from lightning_dropout.cli.errors import UserError

__all__ = ["find_recipe", "recipe_names", "recipe_table", "recipes_folder"]

_PACKAGE = Path(__file__).resolve().parents[1]


def recipes_folder() -> Path:
    """The folder of recipes: inside the package in a wheel, beside it in a checkout or an editable install."""
    packaged = _PACKAGE / "_recipes"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "recipes"


def recipe_names() -> list[str]:
    """Names of all recipes, as ``lightning run`` takes them."""
    return sorted(path.stem for path in recipes_folder().glob("*.yaml"))


def find_recipe(name: str) -> Path:
    """The YAML file that ``name`` stands for: a recipe's name, or the path of a file of one's own.

    Raises:
        UserError: If there is no such recipe or file.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if path.is_file():
            return path
        near = get_close_matches(path.name, [other.name for other in path.parent.glob("*.y*ml")], n=1)
        hint = f"Did you mean {str(path.parent / near[0])!r}?" if near else "Give the path of a YAML file."
        raise UserError(f"there is no file {name!r}. {hint}")
    names = recipe_names()
    if name in names:
        return recipes_folder() / f"{name}.yaml"
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}?" if near else f"Recipes: {', '.join(names)}."
    raise UserError(f"there is no recipe {name!r}. {hint} A file of your own ends in .yaml.")


def recipe_table() -> str:
    """One line for every recipe: its name and the first line of its header."""
    names = recipe_names()
    width = max(map(len, names), default=0)
    lines = []
    for name in names:
        with (recipes_folder() / f"{name}.yaml").open(encoding="utf-8") as file:
            lines.append(f"{name:<{width}}  {file.readline().lstrip('# ').rstrip()}")
    return "\n".join(lines)
