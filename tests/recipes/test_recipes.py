import itertools
import re
import string

import pytest
import yaml

from lightning_dropout.cli.main import main
from lightning_dropout.cli.recipes import find_recipe, recipe_names

#: What makes each recipe a matter of a second. It is still the recipe's own configuration that is parsed and run.
TINY = {
    "char-lm": [
        "--data.files=text.txt",
        "--data.context_length=8",
        "--model.network.context_length=8",
        "--model.network.dim=16",
        "--model.network.num_heads=2",
        "--model.network.num_layers=1",
    ],
}


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(string.printable.rstrip() * 30)
    return tmp_path


def test_every_recipe_has_its_test():
    assert set(TINY) == set(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_runs(name, workplace):
    options = ["--trainer.fast_dev_run=2", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    assert main(["run", name, *options, *TINY[name]]) == 0
    assert [path.name for path in workplace.iterdir()] == ["text.txt"]


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_says_what_it_is_and_how_to_run_it(name):
    lines = find_recipe(name).read_text().splitlines()
    header = "\n".join(itertools.takewhile(lambda line: line.startswith("#"), lines))
    assert re.fullmatch(r"# [A-Z].{20,100}\(about .+ on 2 cores\)", lines[0])
    assert f"lightning run {name}" in header
    assert "What to expect" in header


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_watches_what_it_does(name):
    callbacks = yaml.safe_load(find_recipe(name).read_text())["trainer"]["callbacks"]
    attached = {callback["class_path"].rpartition(".")[2] for callback in callbacks}
    assert {"DropoutSummary", "ModeGuard", "OverfittingMonitor", "ModelCheckpoint"} <= attached
