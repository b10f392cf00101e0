"""What writes text: the language model of a run, or of a checkpoint folder in the layout of Hugging Face."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple
from zipfile import is_zipfile

import torch

from lightning_dropout.cli.errors import UserError, configuring
from lightning_dropout.cli.run_folder import find_checkpoint
from lightning_dropout.data import TextData
from lightning_dropout.data.tokenizer_choice import tokenizer_from_state
from lightning_dropout.data.tokenizers import Tokenizer
from lightning_dropout.models import TextGenerator, Transformer
from lightning_dropout.modules import LanguageModel

__all__ = ["find_text_generator"]


def find_text_generator(path: Path) -> TextGenerator:
    """The generator of a checkpoint, of a run's best checkpoint, or of a Llama or GPT-2 folder; in eval mode.

    Raises:
        UserError: If there is nothing at ``path`` that writes text.
    """
    if (path / "config.json").is_file():
        return TextGenerator.from_pretrained(path)
    return _of_checkpoint(find_checkpoint(path))


def _of_checkpoint(path: Path) -> TextGenerator:
    if not is_zipfile(path):
        raise UserError(f"{path} is no checkpoint, or one that was cut off.")
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    if (state := checkpoint.get(TextData.__qualname__)) is None:
        kind = checkpoint.get(LanguageModel.CHECKPOINT_HYPER_PARAMS_KEY, {}).get("_class_path", "a module")
        raise UserError(f"{path} is of {kind} without TextData. Give a checkpoint of a language model on texts.")
    with configuring():
        module = LanguageModel.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    if not isinstance(module.network, Transformer):
        raise UserError(
            f"{path} is of a {type(module.network).__name__}, but this takes a Transformer. Give the folder that the "
            "run exported."
        )
    tokenizer = _RunTokenizer(tokenizer_from_state(state))
    return TextGenerator(module.network.eval(), tokenizer)


class _Encoding(NamedTuple):
    ids: list[int]


class _RunTokenizer:
    """The tokenizer of a run as a ``TextGenerator`` uses it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def encode(self, text: str, **_: Any) -> _Encoding:
        return _Encoding(self._tokenizer.encode(text).tolist())

    def decode(self, ids: list[int]) -> str:
        known = [token for token in ids if token < self._tokenizer.vocab_size]  # a vocabulary may be padded
        return self._tokenizer.decode(known)
