"""Every block of the README runs as it stands there."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import re
import shlex
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

from lightning_dropout.cli.main import main

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^ *```(\w+)\n(.*?)^ *```", README.read_text(), flags=re.DOTALL | re.MULTILINE)


def blocks(language: str) -> list[str]:
    return [textwrap.dedent(code) for found, code in BLOCKS if found == language]


def commands(program: str) -> list[str]:
    lines = "".join(blocks("console")).splitlines()
    return [line.removeprefix(program).strip() for line in lines if line.startswith(f"{program} ")]


@pytest.mark.filterwarnings("ignore:The dirpath", "ignore:enable_nested_tensor")
def test_the_python_blocks_run_one_after_the_other(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "handlers", [caplog.handler])
    caplog.set_level(logging.INFO)
    module = ModuleType("readme")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # where dataclasses look up types
    for code in blocks("python"):
        exec(compile(code, README.name, "exec"), module.__dict__)
    assert list(tmp_path.rglob("overfitting.png"))
    printed = capsys.readouterr().out
    for line in ("net.2", "self_attn", "LD001", "tensor([2., 4., 6., 8.])", "torch.Size([8])", "torch.Size([4, 2])"):
        assert line in printed
    for line in blocks("text")[0].splitlines():
        assert line in printed or line in caplog.text


@pytest.mark.parametrize("command", commands("lightning"))
def test_the_runs_are_ones_that_the_command_line_takes(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text("row, row, row your boat gently down the stream. " * 400)
    (tmp_path / "attach.py").write_text("import sys\nprint(sys.argv)")
    print_config = [] if "--list" in command or ".py" in command else ["--print_config"]
    with contextlib.suppress(SystemExit):  # as jsonargparse ends
        assert main([*shlex.split(command), *print_config]) == 0
    out, err = capsys.readouterr()
    assert out
    assert "lightning-dropout:" not in err


@pytest.mark.parametrize("command", commands("lightning-dropout"))
def test_the_other_commands_have_the_options_shown(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, *arguments = shlex.split(command)
    with contextlib.suppress(SystemExit):
        main([name, *(["copy"] if name == "recipes" else []), "--help"])
    help_text = capsys.readouterr().out
    assert f"lightning-dropout {name}" in help_text
    assert all(option in help_text for option in arguments if option.startswith("--"))


def test_the_messages_quoted_are_what_is_said() -> None:
    path = Path(__file__).parent / "callbacks" / "test_mode_guard_faults.py"
    spec = importlib.util.spec_from_file_location("test_mode_guard_faults", path)
    assert spec is not None
    assert spec.loader is not None
    faults = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(faults)
    said = []
    for name in (
        "AttentionFunction",
        "FunctionWithoutTraining",
        "ForgottenLayer",
        "EvalAfterSampling",
        "ErrorInValidation",
    ):
        case = faults.FAULTS[name]
        said += faults.findings(case.build(), case.run, case.raises)
    quoted = re.findall(
        r'ModeGuard: "(Dropout is|1 dropout|5 modules)(.*?)(?: \(model\.py:\d+\))?"', README.read_text()
    )
    assert len(quoted) == len(said)
    for message, words in zip(said, quoted, strict=True):
        assert "".join(words) in message


def test_the_extras_named_are_there() -> None:
    pyproject = (README.parent / "pyproject.toml").read_text()
    for extras in re.findall(r"lightning-dropout\[([\w,]+)\]", README.read_text()):
        for extra in extras.split(","):
            assert re.search(rf"^{extra} = \[", pyproject, flags=re.MULTILINE)


def test_links_and_pictures_of_the_readme_are_there() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README.read_text())
    assert targets
    for target in targets:
        assert target.startswith("https://") or (README.parent / target).exists(), target
