from __future__ import annotations

import runpy
from pathlib import Path

import pytest


def test_the_command_prints_that_the_certain_half_is_more_often_right(capsys: pytest.CaptureFixture[str]) -> None:
    command = runpy.run_path(str(Path(__file__).with_name("uncertainty.py")))
    command["main"](["--train", "300", "--epochs", "40", "--masks", "20"])
    rows = capsys.readouterr().out.splitlines()[1:]
    assert len(rows) == 3
    for row in rows:
        over_all, certain, uncertain = map(float, row.split()[-3:])
        assert certain > over_all > uncertain
        assert over_all == pytest.approx((certain + uncertain) / 2, abs=1e-3)
