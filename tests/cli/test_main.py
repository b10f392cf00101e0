import re
import runpy
import sys

import pytest

from lightning_dropout.cli.main import _COMMANDS, main


def test_help_shows_every_command(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in _COMMANDS)


@pytest.mark.parametrize("arguments", [["recipes", "list"], ["run", "--list"]])
def test_recipes_are_listed(arguments, capsys):
    assert main(arguments) == 0
    assert re.search("^char-lm +Early dropout", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu", "char-lm"], "lightning-dropout: there is no command 'rnu'. Did you mean 'run'?"),
        (["recipes"], "lightning-dropout: there is no action. See `lightning-dropout recipes --help`."),
        (["run"], "lightning-dropout: name a recipe, a YAML file or a script."),
        (["run", "--trainer.max_epochs", "3"], "lightning-dropout: found the option '--trainer.max_epochs' first."),
        (["run", "chr-lm"], "lightning-dropout: there is no recipe 'chr-lm'. Did you mean 'char-lm'?"),
    ],
)
def test_a_wrong_command_is_one_line_and_exit_code_2(arguments, message, capsys):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_the_module_is_the_same_as_the_script(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lightning-dropout", "recipes", "list"])
    monkeypatch.delitem(sys.modules, "lightning_dropout.__main__", raising=False)
    with pytest.raises(SystemExit) as exit:
        runpy.run_module("lightning_dropout", run_name="__main__")
    assert exit.value.code == 0
    assert "char-lm" in capsys.readouterr().out


@pytest.mark.parametrize("command", _COMMANDS)
def test_every_command_of_the_table_exists_and_has_help(command, capsys):
    try:
        code = main([command, "--help"])
    except SystemExit as exit:  # as argparse ends
        code = exit.code
    assert code == 0
    assert "usage:" in capsys.readouterr().out


def test_a_rank_says_who_it_is(monkeypatch, capsys):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert main(["rnu"]) == 2
    assert capsys.readouterr().err.startswith("lightning-dropout: rank 1: there is no command 'rnu'.")
