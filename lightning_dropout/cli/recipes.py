"""Where the recipes are, in a checkout as well as in an installed wheel."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path

from lightning_dropout.cli.errors import UserError

__all__ = ["find_recipe", "recipe_files", "recipe_names", "recipe_table", "recipes_folder"]

_PACKAGE = Path(__file__).resolve().parents[1]


def recipes_folder() -> Path:
    """The folder of recipes: inside the package in a wheel, beside it in a checkout or an editable install."""
    packaged = _PACKAGE / "_recipes"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "recipes"


def recipe_files() -> dict[str, Path]:
    """All recipes, by the name that ``lightning run`` takes: YAML files, and scripts with their ending."""
    paths = [path for path in recipes_folder().iterdir() if path.suffix in (".yaml", ".py")]
    return {path.stem if path.suffix == ".yaml" else path.name: path for path in sorted(paths)}


def recipe_names() -> list[str]:
    """Names of the recipes that are YAML files."""
    return [name for name, path in recipe_files().items() if path.suffix == ".yaml"]


def find_recipe(name: str) -> Path:
    """The file that ``name`` stands for: a recipe's name, or the path of a YAML file or script of one's own.

    Raises:
        UserError: If there is no such recipe or file.
    """
    recipes = recipe_files()
    if name.endswith((".yaml", ".yml", ".py")):
        path = Path(name)
        if os.path.isfile(name):  # Path.is_file() raises for a name that is too long
            return path
        if name in recipes:
            return recipes[name]
        folder = path.parent.glob("*") if os.path.isdir(path.parent) else ()
        others = [other.name for other in folder if other.suffix in (".yaml", ".yml", ".py")]
        near = get_close_matches(path.name, others, n=1)
        hint = f"Did you mean {str(path.parent / near[0])!r}?" if near else "Give the path of a YAML file or a script."
        raise UserError(f"there is no file {name!r}. {hint}")
    if name in recipes:
        return recipes[name]
    near = get_close_matches(name, recipes, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}?" if near else f"Recipes: {', '.join(recipes)}."
    raise UserError(f"there is no recipe {name!r}. {hint} A file of your own ends in .yaml or .py.")


def recipe_table() -> str:
    """One line for every recipe: its name and the first line of its header."""
    recipes = recipe_files()
    width = max(map(len, recipes), default=0)
    lines = []
    for name, path in recipes.items():
        with path.open(encoding="utf-8") as file:
            title = file.readline().strip('#" \n')
        lines.append(f"{name:<{width}}  {title}")
    return "\n".join(lines)
