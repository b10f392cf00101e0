import sys

import pytest

from lightning_dropout.cli.main import main
from lightning_dropout.cli.recipes import find_recipe


def test_a_recipe_is_shown_as_it_is(capsys):
    assert main(["recipes", "show", "char-lm"]) == 0
    assert capsys.readouterr().out == find_recipe("char-lm").read_text()


def test_a_terminal_shows_it_in_colour(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert main(["recipes", "show", "attach.py"]) == 0
    assert "\x1b[" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("destination", "expected"),
    [
        (".", "./char-lm.yaml"),
        ("mine.yaml", "./mine.yaml"),
        ("mine", "./mine.yaml"),  # `run` knows a file by its ending
        ("my.v2", "./my.v2.yaml"),
        ("new/folder/", "./new/folder/char-lm.yaml"),
        ("new/mine", "./new/mine.yaml"),
        ("..", "../char-lm.yaml"),
    ],
)
def test_a_copy_can_be_run_by_the_command_that_is_printed(destination, expected, workplace, capsys):
    assert main(["recipes", "copy", "char-lm", destination]) == 0
    assert capsys.readouterr().out == f"copied to {expected}\nnext: lightning run {expected}\n"
    assert find_recipe(expected).read_text() == find_recipe("char-lm").read_text()


def test_a_script_stays_a_script(workplace, capsys):
    assert main(["recipes", "copy", "attach.py", "my attachment"]) == 0
    assert "lightning run './my attachment.py'" in capsys.readouterr().out


def test_a_file_is_replaced_only_by_force(workplace, capsys):
    (workplace / "char-lm.yaml").write_text("mine")
    assert main(["recipes", "copy", "char-lm", "."]) == 2
    err = capsys.readouterr().err
    assert err == "lightning-dropout: char-lm.yaml is there already. Give another path, or --force to replace it.\n"
    assert (workplace / "char-lm.yaml").read_text() == "mine"
    assert main(["recipes", "copy", "char-lm", ".", "--force"]) == 0
    assert (workplace / "char-lm.yaml").read_text() == find_recipe("char-lm").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lst"], "found 'lst'. Did you mean 'list'? See `lightning-dropout recipes --help`."),
        (["list", "more"], "found 'more', which is one too many."),
        (["show"], "there is no RECIPE. See `lightning-dropout recipes show --help`."),
        (["copy"], "there is no RECIPE and no PATH."),
        (["show", "chr-lm"], "there is no recipe 'chr-lm'. Did you mean 'char-lm'?"),
        (["copy", "char-lm", ".", "--forc"], "there is no option '--forc'. Did you mean '--force'?"),
        (["copy", "char-lm", "file/"], "cannot write file/char-lm.yaml (File exists). Give another path."),
        (["copy", "char-lm", "x" * 300], "(File name too long). Give another path."),
    ],
)
def test_bad_input_is_one_line(arguments, message, workplace, capsys):
    (workplace / "file").touch()
    assert main(["recipes", *arguments]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert (out, err.count("\n")) == ("", 1)
    assert [path.name for path in workplace.iterdir()] == ["file"]


@pytest.mark.parametrize("action", ["list", "show", "copy"])
def test_every_action_has_help_with_an_example(action, capsys):
    with pytest.raises(SystemExit) as exit:
        main(["recipes", action, "--help"])
    assert exit.value.code == 0
    assert f"  lightning-dropout recipes {action}" in capsys.readouterr().out
