import pytest

from lightning_dropout.cli import recipes
from lightning_dropout.cli.errors import UserError


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The package as a wheel lays it out: the recipes inside."""
    package = tmp_path / "site-packages" / "lightning_dropout"
    (package / "_recipes").mkdir(parents=True)
    (package / "_recipes" / "tea.yaml").write_text("# How to make tea (2 minutes)\nmodel: null\n")
    monkeypatch.setattr(recipes, "_PACKAGE", package)
    return package


def test_a_checkout_has_its_recipes_beside_the_package():
    assert recipes.find_recipe("char-lm").read_text().startswith("# ")
    assert recipes.find_recipe("char-lm").parent.name == "recipes"


def test_a_wheel_has_its_recipes_inside_the_package(installed):
    assert recipes.recipe_names() == ["tea"]
    assert recipes.find_recipe("tea") == installed / "_recipes" / "tea.yaml"


def test_the_table_says_what_a_recipe_is(installed):
    (installed / "_recipes" / "long-name.yaml").write_text("# Another\n")
    assert recipes.recipe_table().splitlines() == ["long-name  Another", "tea        How to make tea (2 minutes)"]


def test_a_file_is_taken_as_it_is(tmp_path):
    path = tmp_path / "own.yaml"
    path.touch()
    assert recipes.find_recipe(str(path)) == path


def test_an_unknown_recipe_suggests_the_nearest():
    with pytest.raises(UserError, match=r"^there is no recipe 'char_lm'\. Did you mean 'char-lm'\?"):
        recipes.find_recipe("char_lm")


def test_an_outlandish_recipe_lists_all(installed):
    with pytest.raises(UserError, match=r"^there is no recipe 'protein-folding'\. Recipes: tea\."):
        recipes.find_recipe("protein-folding")


def test_a_missing_file_suggests_the_nearest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").touch()
    with pytest.raises(UserError, match=r"^there is no file 'confg\.yaml'\. Did you mean 'config\.yaml'\?"):
        recipes.find_recipe("confg.yaml")
