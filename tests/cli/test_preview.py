import sys

import pytest
import yaml

from lightning_dropout.cli.main import main
from lightning_dropout.cli.schedule_plot import sketch

BORING = "lightning.pytorch.demos.boring_classes.BoringModel"


def previewed(arguments, capsys):
    assert main(["preview", *arguments]) == 0
    return capsys.readouterr().out


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG")


def own_recipe(folder, *callbacks):
    """A file that schedules what ``callbacks`` say in a small network."""
    content = {
        "model": {
            "class_path": "lightning_dropout.Regressor",
            "init_args": {
                "network": {
                    "class_path": "lightning_dropout.MLP",
                    "init_args": {"num_inputs": 4, "num_outputs": 1, "widths": [8, 8], "dropout": {"hidden": 0.4}},
                }
            },
        },
        "trainer": {"callbacks": [{"class_path": f"lightning_dropout.callbacks.{name}", "init_args": arguments}
                                  for name, arguments in callbacks]},
    }  # fmt: skip
    (folder / "own.yaml").write_text(yaml.safe_dump(content))
    return "own.yaml"


def test_a_recipe_is_drawn_and_nothing_else_is_written(workplace, tiny, capsys):
    out = previewed(["char-lm", *tiny], capsys)
    assert "DropoutScheduler(Early(rate=0.1, until=0.5, shape='linear'), how='set')" in out
    assert "drives network.emb (1), network.blocks.attn (1), " in out
    assert "picture: char-lm-schedule.png" in out
    assert [path.name for path in workplace.iterdir()] == ["char-lm-schedule.png"]
    assert is_png(workplace / "char-lm-schedule.png")
    rows = [line.partition("│")[2] for line in out.splitlines() if "│" in line]
    assert rows[0].startswith("█")
    assert len(rows[-1]) == 30  # nothing after half of the training


def test_an_override_is_drawn_as_it_will_be(workplace, tiny, capsys):
    out = previewed(["char-lm", *tiny, "--trainer.callbacks.schedule=0.3", "--output=new/rates.png"], capsys)
    assert "Constant(rate=0.3)" in out
    assert " 0.3 │██████" in out
    assert is_png(workplace / "new/rates.png")


def test_factors_are_drawn_as_the_rates_that_come_of_them(workplace, capsys):
    linear = {"class_path": "lightning_dropout.schedules.Linear", "init_args": {"start": 1.0, "end": 0.5}}
    scheduler = {"schedule": linear, "sites": "*.hidden", "how": "scale", "total_steps": 1000}
    out = previewed([own_recipe(workplace, ("DropoutScheduler", scheduler))], capsys)
    assert " 0.4 │█" in out
    assert "after 1,000 steps" in out
    assert is_png(workplace / "own-schedule.png")


def test_every_scheduler_is_drawn_and_what_is_decided_in_training_is_named(workplace, capsys):
    schedulers = [
        ("DropoutScheduler", {"schedule": rate, "sites": site}) for rate, site in ((0.2, "*.0.*"), (0.6, "*.1.*"))
    ]
    out = previewed([own_recipe(workplace, *schedulers, ("AdaptiveDropout", {"bounds": [0.1, 0.7]}))], capsys)
    assert out.index("Constant(rate=0.2)") < out.index("Constant(rate=0.6)")
    assert "decides in training on rates from 0.1 to 0.7" in out


def test_a_recipe_without_a_scheduler_says_so(workplace, capsys):
    (workplace / "own.yaml").write_text(f"model: {BORING}\n")
    assert "own.yaml has no DropoutScheduler." in previewed(["own.yaml"], capsys)
    assert [path.name for path in workplace.iterdir()] == ["own.yaml"]


def test_without_matplotlib_there_is_the_sketch(workplace, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    recipe = own_recipe(workplace, ("DropoutScheduler", {"schedule": 0.2}))
    out = previewed([recipe], capsys)
    assert " 0.2 │██████" in out
    assert "there is no picture without matplotlib: pip install 'lightning-dropout[recipes]'" in out
    assert main(["preview", recipe, "--output=mine.png"]) == 2
    assert "there is no picture without matplotlib" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is no RECIPE|FILE.yaml. See `lightning-dropout preview --help`."),
        (["own.yml"], "there is no file 'own.yml'. Did you mean 'own.yaml'?"),
        (["own.yaml", "--output", "rates.pdf"], "--output: found 'rates.pdf'. Give a path that ends in .png."),
        (["own.yaml", "--out=rates.png"], "there is no option 'out'."),
        (["own.yaml", "--output=own.yaml/rates.png"], "own.yaml"),
        (["own.yaml", "--trainer.callbacks.sites=[blok*]"], "'blok*' matches no dropout site. Found: 'network."),
        (["own.yaml", "--trainer.callbacks.schedule=2"], "Constant(rate): found 2"),
    ],
)
def test_bad_input_is_one_line(arguments, message, workplace, capsys):
    own_recipe(workplace, ("DropoutScheduler", {"schedule": 0.2}))
    assert main(["preview", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert [path.name for path in workplace.iterdir()] == ["own.yaml"]


def test_a_sketch_of_nothing_is_flat():
    assert sketch([0.0, 0.0], num_rows=2) == ["   0 │", "   0 │", "     └──"]
