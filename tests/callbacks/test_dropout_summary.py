from __future__ import annotations

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from torch import nn

from lightning_dropout.callbacks import DropoutSummary


def printed(model: BoringModel, summary: DropoutSummary, capsys: pytest.CaptureFixture[str]) -> str:
    Trainer(
        fast_dev_run=True,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[summary],
    ).fit(model)
    return capsys.readouterr().out


def row(text: str, name: str) -> list[str]:
    return next(line for line in text.splitlines() if name in line).replace("│", " ").split()


def test_prints_a_row_for_each_group_of_sites(capsys: pytest.CaptureFixture[str]) -> None:
    model = BoringModel()
    model.blocks = nn.ModuleList(nn.ModuleDict({"ff": nn.Dropout(0.1 * i)}) for i in range(3))
    text = printed(model, DropoutSummary(), capsys)
    assert row(text, "blocks.ff") == ["blocks.ff", "element", "0", "to", "0.2", "0", "to", "0.2", "3"]


def test_prints_every_site_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    model = BoringModel()
    model.blocks = nn.ModuleList([nn.Dropout(0.1), nn.Dropout2d(0.2)])
    text = printed(model, DropoutSummary(grouped=False), capsys)
    assert row(text, "blocks.1") == ["blocks.1", "channel", "0.2", "0.2"]


def test_a_model_without_dropout_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert "BoringModel has no dropout sites." in printed(BoringModel(), DropoutSummary(), capsys)
