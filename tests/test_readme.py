"""Every block of the README runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README.read_text(), flags=re.DOTALL)


def blocks(language: str) -> list[str]:
    return [code for found, code in BLOCKS if found == language]


@pytest.mark.filterwarnings("ignore:The dirpath", "ignore:enable_nested_tensor")
def test_the_python_blocks_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "readme"}
    for code in blocks("python"):
        exec(compile(code, README.name, "exec"), names)
    assert list(tmp_path.rglob("overfitting.png"))
    printed = capsys.readouterr().out
    for line in ("net.2", "self_attn", "LD001", "tensor([2., 4., 6., 8.])", "torch.Size([8])", "torch.Size([4, 2])"):
        assert line in printed


def test_links_and_pictures_of_the_readme_are_there() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README.read_text())
    assert targets
    for target in targets:
        assert target.startswith("https://") or (README.parent / target).exists(), target
