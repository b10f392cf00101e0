import re
import sys

import pytest

from lightning_dropout.cli.main import main

MODELS = """
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import nn

def build():
    return nn.Sequential(nn.Linear(16, 8), nn.Dropout(0.1), nn.Linear(8, 2))

def embed():
    return nn.Sequential(nn.Embedding(3, 8), nn.Dropout(0.2))

def norm():
    return nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.1), nn.Linear(8, 2))

class Hidden(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Dropout(0.3), nn.Dropout(0.4)

    def forward(self, first, second):
        return F.dropout(self.used(first) + second, 0.25, self.training)

class Module(LightningModule):
    def __init__(self):
        super().__init__()
        self.example_input_array = torch.ones(2, 3)
        self.dropout = nn.Dropout(0.15)

    def forward(self, inputs):
        return self.dropout(inputs)

def needs(size):
    return nn.Linear(size, size)

def broken():
    raise ValueError("a bug of the user")

model = build()
number = 3
"""


@pytest.fixture(autouse=True)
def models(workplace, monkeypatch):
    """A module ``own`` in the working folder, and one that imports what is not there."""
    (workplace / "own.py").write_text(MODELS)
    (workplace / "lacking.py").write_text("import a_package_that_nobody_has")
    monkeypatch.setattr(sys, "path", sys.path.copy())
    for name in ("own", "lacking"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return workplace


def inspected(arguments, capsys, code=0):
    assert main(["inspect", *arguments]) == code
    return capsys.readouterr().out


def test_a_recipe_is_run_on_its_own_data(workplace, tiny, capsys):
    out = inspected(["char-lm", *tiny, "--model.network.dropout.ff=0.2"], capsys)
    assert "9 dropout sites of LanguageModel" in out
    assert "9 of them fired in training, 0 dropout calls belong to none" in out
    (ff,) = (line for line in out.splitlines() if "network.blocks.0.ff " in line and "feedforward.py:" in line)
    assert "0.2" in ff
    assert "4x8x" in ff  # the batch of the recipe's data
    assert "no findings" in out
    assert {path.name for path in workplace.iterdir()} == {"own.py", "lacking.py"}


@pytest.mark.parametrize("target", ["own:build", "own:model"])
def test_an_importable_model_is_run_on_random_numbers(target, capsys):
    out = inspected([target, "--input-shape", "4,16"], capsys)
    assert "1 dropout sites of Sequential" in out
    assert "1 of them fired in training" in out
    assert "4x8" in out
    assert not re.search(r"[\w?]+(\.py)?:\d", out)  # nobody's code calls the layers of a Sequential


def test_whole_numbers_are_in_every_vocabulary(capsys):
    assert "1 of them fired" in inspected(["own:embed", "--input-shape", "4,16", "--dtype", "int64"], capsys)


def test_what_fires_without_a_site_and_what_never_fires(capsys):
    out = inspected(["own:Hidden", "--input-shape", "2,100", "100"], capsys)
    assert "1 of them fired in training, 1 dropout calls belong to none" in out
    (constant,) = (line for line in out.splitlines() if "constant in ''" in line)
    assert "0.25" in constant
    assert "own.py:" in constant
    assert any("unused" in line and "never" in line for line in out.splitlines())


def test_a_lightning_module_brings_its_example(capsys):
    assert "2x3" in inspected(["own:Module"], capsys)


def test_without_an_input_there_are_the_sites_alone(capsys):
    out = inspected(["own:build"], capsys)
    assert "1 dropout sites" in out
    assert "Without an input it was not run. Give --input-shape" in out


def test_findings_fail_only_where_that_is_asked_for(capsys):
    norm = ["own:norm", "--input-shape", "4,8"]
    assert "LD001" in inspected(norm, capsys)
    inspected([*norm, "--strict"], capsys, code=1)
    inspected([*norm, "--strict", "--ignore", "LD001"], capsys, code=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is no RECIPE|FILE.yaml|MODULE:NAME. See `lightning-dropout inspect --help`."),
        (["char_lm"], "there is no recipe 'char_lm'. Did you mean 'char-lm'?"),
        (["attach.py"], "attach.py is a script. Give a recipe or a YAML file."),
        (["char-lm", "--model.lrr=1"], "has no option 'lrr'. Did you mean 'lr'?"),
        (["char-lm", "--stric"], "there is no option 'stric'."),
        (["nowhere:build"], "there is no module 'nowhere'. Run this where it can be imported."),
        (["own.deeper:build"], "there is no module 'own.deeper'"),
        (["lacking:build"], "lacking imports 'a_package_that_nobody_has', which is not installed."),
        (["own:biuld"], "own has no 'biuld'. Did you mean 'build'?"),
        (["own:needs"], "own:needs cannot be called as it is: missing a required argument: 'size'. Give a callable"),
        (["own:number"], "own:number is a int. Give a torch.nn.Module or what builds one."),
        (["own:build", "--model.lr", "1"], "found '--model.lr', but only recipes have overrides."),
        (["own:build", "--strict"], "--strict needs an input to run own:build on. Give --input-shape."),
        (["own:build", "--input-shape", "4,x"], "--input-shape: found '4,x'. Give whole numbers and commas, such as"),
        (["own:build", "--input-shape"], "--input-shape is given no value."),
        (["own:build", "--input-shape", "4,3"], "Sequential does not take float32 of 4x3 (RuntimeError: mat1 and mat2"),
        (["own:build", "--input-shape", "4,16", "2"], "does not take float32 of 4x16 and 2 (TypeError: "),
        (["own:build", "--input-shape", "4,16", "--dtype", "float"], "found 'float'. Did you mean 'float"),
        (["own:build", "--input-shape", "4,16", "--ignore", "LD999"], "audit(ignore='LD999') is the code of no rule."),
    ],
)
def test_bad_input_is_one_line(arguments, message, capsys):
    assert main(["inspect", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ValueError, match="a bug of the user"):
        main(["inspect", "own:broken"])
