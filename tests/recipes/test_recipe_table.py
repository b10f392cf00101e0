import runpy
from pathlib import Path

from lightning_dropout.cli.recipes import recipe_files, recipes_folder

TABLE = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "recipe_table.py"))


def test_the_readme_is_what_the_results_say():
    assert (recipes_folder() / "README.md").read_text() == TABLE["table"](TABLE["read"]())


def test_every_recipe_was_run_in_full():
    measured = [entry["recipe"] for entry in TABLE["read"]() if entry.get("main") and "measured" in entry]
    assert sorted(measured) == sorted(recipe_files())


def test_pictures_are_there_and_small():
    for entry in TABLE["read"]():
        if "picture" in entry:
            assert (recipes_folder() / entry["picture"]).stat().st_size < 60_000
