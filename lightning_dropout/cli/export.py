"""A checkpoint folder in the layout of Hugging Face, from the network and the tokenizer of a finished run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule

from lightning_dropout.cli.errors import UserError
from lightning_dropout.data import TextData
from lightning_dropout.data.tokenizer_file import tokenizer_json
from lightning_dropout.models.transformer.checkpoint.optional import optional_module

__all__ = ["check_export", "export_folder"]


def check_export(module: LightningModule) -> None:
    """Refuse a module that has nothing to export, before it is trained.

    Raises:
        UserError: If its network has no ``save_pretrained``.
        ImportError: If safetensors, which it writes, is not installed.
    """
    optional_module("safetensors")
    network: Any = getattr(module, "network", None)
    if not hasattr(network, "save_pretrained"):
        raise UserError(f"run.export: {type(network).__name__} has no save_pretrained. Say --run.export null.")


def export_folder(module: LightningModule, data: LightningDataModule | None, folder: Path) -> None:
    """Write config.json and weights, and tokenizer.json where the data has a tokenizer; replaces what is there."""
    network: Any = module.network
    network.save_pretrained(folder)
    if isinstance(data, TextData):
        content = json.dumps(tokenizer_json(data.tokenizer), ensure_ascii=False, indent=1)
        (folder / "tokenizer.json").write_text(content, encoding="utf-8")
