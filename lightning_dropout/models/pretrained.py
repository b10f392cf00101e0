"""Networks from checkpoint folders, as functions that a configuration can name as ``class_path``."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from lightning_dropout.models.transformer import Transformer, TransformerDropout
from lightning_dropout.models.transformer.checkpoint.folder import find_folder
from lightning_dropout.models.transformer.checkpoint.optional import optional_module

__all__ = ["load_causal_lm", "load_transformer"]


def load_transformer(folder: str, *, dropout: TransformerDropout | None = None) -> Transformer:
    """``Transformer.from_pretrained``: Llama or GPT-2 with a dropout layer at every site, in train mode.

    Args:
        folder: The folder, or an id on the Hugging Face hub.
        dropout: Rates in place of those in ``config.json``.

    Raises:
        ValueError: If the folder is not there or not complete, or holds another kind of network.
    """
    return Transformer.from_pretrained(folder, dropout=dropout)


def load_causal_lm(folder: str, *, settings: dict[str, Any] | None = None) -> nn.Module:
    """Any causal language model that transformers knows, in the eval mode in which it returns all models.

    Lightning's ``fit`` does not switch it to train mode, so its dropout stays off in training until
    ``ModeGuard("fix")`` or a ``train()`` turns it on.

    Args:
        folder: The folder, or an id on the Hugging Face hub.
        settings: What to change in its ``config.json``, such as ``{"attention_dropout": 0.1}``.

    Raises:
        ValueError: If the folder is not there.
    """
    loader = optional_module("transformers").AutoModelForCausalLM
    return cast(nn.Module, loader.from_pretrained(find_folder(folder), **(settings or {})))
