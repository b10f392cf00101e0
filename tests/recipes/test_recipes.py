import itertools
import re
import string
from pathlib import Path

import pytest
import yaml

import lightning_dropout as ld
from lightning_dropout.cli.export import export_folder
from lightning_dropout.cli.main import main
from lightning_dropout.cli.recipes import find_recipe, recipe_files, recipe_names

TEXT = ["--data.files=text.txt", "--data.context_length=8"]
TRANSFORMER = [
    "--model.network.dim=16",
    "--model.network.num_heads=2",
    "--model.network.num_layers=1",
]
LANGUAGE_MODEL = [*TEXT, *TRANSFORMER, "--model.network.context_length=8"]

#: What makes each recipe a matter of a second. It is still the recipe's own configuration that is parsed and run.
TINY = {
    "char-lm": LANGUAGE_MODEL,
    "ddp": [*LANGUAGE_MODEL, "--trainer.devices=1", "--trainer.strategy=auto"],
    "image-cnn": ["--model.network.widths=[4,4]", "--model.network.strides=[2,2]"],
    "image-vit": TRANSFORMER,
    "llama-char": [*LANGUAGE_MODEL, "--model.network.num_kv_heads=1"],
    "llama-finetune": [*TEXT, "--data.tokenizer=llama", "--model.network.folder=llama"],
    "tabular-mlp": ["--model.network.widths=[8]"],
    "text-classifier": [*TRANSFORMER, "--data.max_passages=1"],
    "uncertainty": ["--model.network.widths=[8]"],
}
QUICK = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
SCRIPTS = sorted(set(recipe_files()) - set(recipe_names()))


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(string.printable.rstrip() * 30)
    return tmp_path


@pytest.fixture
def llama():
    """The folder that llama-char would leave."""
    data = ld.TextData("text.txt", context_length=8)
    network = ld.Transformer(data.vocab_size, num_layers=1, num_heads=2, dim=16, context_length=8)
    export_folder(ld.LanguageModel(network), data, Path("llama"))


def lines_of_header(name):
    return list(itertools.takewhile(lambda line: line.startswith("#"), find_recipe(name).read_text().splitlines()))


def test_every_recipe_has_its_test():
    assert set(TINY) == set(recipe_names())
    assert SCRIPTS == ["attach.py"]


@pytest.mark.filterwarnings("ignore:.* in eval mode at the start of training")  # what llama-finetune is about
@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_runs(name, workplace, llama):
    assert main(["run", name, "--trainer.fast_dev_run=2", *QUICK, *TINY[name]]) == 0
    assert {path.name for path in workplace.iterdir()} == {"text.txt", "llama"}


def test_the_script_runs(workplace, monkeypatch, capfd):
    monkeypatch.setenv("PL_TRAINER_FAST_DEV_RUN", "2")
    monkeypatch.setenv("PL_TRAINER_ENABLE_PROGRESS_BAR", "0")
    assert main(["run", "attach.py", "--accelerator", "cpu"]) == 0
    out = capfd.readouterr().out
    assert re.search(r"1 rank\(s\), 2 steps: train \d.*, val \d.*, gap ", out)
    assert {path.name for path in workplace.iterdir()} == {"text.txt"}


def test_two_processes_are_one_run(workplace, run_ranks):
    limits = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=3", "--trainer.limit_val_batches=1"]
    options = [*QUICK, *LANGUAGE_MODEL, *limits, "--run.wandb=disabled"]
    script = "import sys; from lightning_dropout.cli.main import main; result = main(['run', 'ddp', *sys.argv[1:]])"
    assert run_ranks(script, *options, folder=workplace) == [0, 0]
    assert [path.name for path in (workplace / "runs/ddp").iterdir()] == ["version_0"]
    assert (workplace / "runs/ddp/version_0/checkpoints/best.ckpt").exists()


def test_the_trap_is_named_and_what_is_off_is_turned_on(workplace, llama, recwarn):
    options = ["--trainer.fast_dev_run=2", *QUICK, *TINY["llama-finetune"]]
    assert main(["run", "llama-finetune", *options]) == 0
    assert any("eval mode" in str(warning.message) for warning in recwarn)


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_says_what_it_is_and_how_to_run_it(name):
    first, *rest = lines_of_header(name)
    assert re.fullmatch(r"# [A-Z].{20,100}\(about .+ on 2 cores\)", first)
    assert f"lightning run {name}" in "\n".join(rest)
    assert "What it shows" in "\n".join(rest)
    assert re.search(r"What to expect, from one run .* seed 42: ", "\n".join(rest))


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_watches_what_it_does(name):
    callbacks = yaml.safe_load(find_recipe(name).read_text())["trainer"]["callbacks"]
    attached = {callback["class_path"].rpartition(".")[2] for callback in callbacks}
    assert {"DropoutSummary", "ModeGuard", "OverfittingMonitor", "ModelCheckpoint"} <= attached


def test_each_recipe_leads_to_another():
    follows = {name: yaml.safe_load(find_recipe(name).read_text())["run"]["next"].split()[2] for name in recipe_names()}
    assert set(follows.values()) <= set(recipe_files())
    seen = {"tabular-mlp"}
    name = "tabular-mlp"
    while name in follows and follows[name] not in seen:
        name = follows[name]
        seen.add(name)
    assert seen == set(recipe_files()) - {"char-lm"}  # which leads to a variant of itself
