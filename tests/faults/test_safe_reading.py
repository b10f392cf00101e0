"""Reading a file runs no code in it; and what is saved can be read that way."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import nn

import lightning_dropout as ld
from lightning_dropout.callbacks import AdaptiveDropout, MCDropout, OverfittingMonitor, RankSeed, default_callbacks

ROOT = Path(__file__).parents[2]
UNSAFE = {"yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "pickle.load", "pickle.loads"}
NEEDS_WEIGHTS_ONLY = {"torch.load", "load_from_checkpoint", "load_state_dict_from_url"}


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def unsafe_calls(source: str) -> list[str]:
    return [
        ast.unparse(call)
        for name, call in calls(ast.parse(source))
        if name in UNSAFE
        or (
            (name in NEEDS_WEIGHTS_ONLY or name.rpartition(".")[2] in NEEDS_WEIGHTS_ONLY)
            and not any(
                keyword.arg == "weights_only" and ast.unparse(keyword.value) == "True" for keyword in call.keywords
            )
        )
    ]


def test_no_file_is_read_in_a_way_that_could_run_code() -> None:
    assert unsafe_calls("torch.load(path)\nyaml.load(file)\nModel.load_from_checkpoint(path, weights_only=False)") != []
    paths = [path for folder in ("lightning_dropout", "callbacks", "recipes") for path in (ROOT / folder).rglob("*.py")]
    assert len(paths) > 100
    assert {str(path): found for path in paths if (found := unsafe_calls(path.read_text()))} == {}


def text(folder: Path) -> tuple[nn.Module, LightningDataModule]:
    (folder / "text.txt").write_text("row, row, row your boat gently down the stream. " * 20)
    data = ld.TextData(str(folder / "text.txt"), context_length=8, batch_size=8)
    dropout = ld.TransformerDropout(emb=0.1)
    network = ld.Transformer(
        vocab_size=data.vocab_size, num_layers=1, num_heads=1, dim=4, context_length=8, dropout=dropout
    )
    return ld.LanguageModel(network), data


def images(folder: Path) -> tuple[nn.Module, LightningDataModule]:
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 4), nn.Dropout(0.1), nn.Linear(4, 10))
    return ld.Classifier(network, num_classes=10), ld.ImageData(batch_size=64)


def table(folder: Path) -> tuple[nn.Module, LightningDataModule]:
    network = nn.Sequential(nn.Linear(10, 4), nn.Dropout(0.1), nn.Linear(4, 1))
    return ld.Regressor(network), ld.TabularData(batch_size=32)


@pytest.mark.parametrize("make", [text, images, table])
def test_all_that_is_saved_is_read_as_weights_only(make: Callable[[Path], Any], tmp_path: Path) -> None:
    for max_epochs, ckpt_path in ((1, None), (2, tmp_path / "saved.ckpt")):
        module, data = make(tmp_path)
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=max_epochs,
            limit_train_batches=2,
            limit_val_batches=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
            callbacks=[RankSeed(0), *default_callbacks(), AdaptiveDropout(), MCDropout()],
        )
        trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=True)
        trainer.save_checkpoint(tmp_path / "saved.ckpt", weights_only=False)
    (monitor,) = (callback for callback in trainer.callbacks if isinstance(callback, OverfittingMonitor))  # type: ignore[attr-defined]
    assert len(monitor.history) == 2
    assert type(data).__qualname__ in torch.load(tmp_path / "saved.ckpt", weights_only=True)
