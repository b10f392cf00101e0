"""Which tokenizer a name or a checkpoint means."""

from __future__ import annotations

import os
from collections.abc import Mapping

from lightning_dropout.data.tokenizers import ByteTokenizer, CharTokenizer, FileTokenizer, Tokenizer

__all__ = ["compare", "find_tokenizer", "tokenizer_from_state"]


def find_tokenizer(name: str, *, owner: str) -> Tokenizer | None:
    """The tokenizer called ``byte``, or by the path of its ``tokenizer.json``, or of a folder with one.

    ``None`` for that called ``char``, which has to be made from texts.

    Raises:
        ValueError: If there is none of that name.
    """
    if name == "char":
        return None
    if name == "byte":
        return ByteTokenizer()
    path = os.path.expanduser(name)
    path = os.path.join(path, "tokenizer.json") if os.path.isdir(path) else path
    if not os.path.isfile(path):
        raise ValueError(f"{owner}(tokenizer={name!r}): not found. Give char, byte, or the path of a tokenizer.json.")
    return FileTokenizer.from_file(path)


def tokenizer_from_state(state: Mapping[str, str]) -> Tokenizer:
    """The tokenizer of a checkpoint."""
    if "vocabulary" in state:
        return CharTokenizer(state["vocabulary"])
    return ByteTokenizer() if state["tokenizer"] == "byte" else FileTokenizer(state["tokenizer"])


def compare(saved: Tokenizer, found: Tokenizer) -> str:
    """How the tokenizer of a checkpoint differs from that of the texts, in words."""
    if not isinstance(saved, CharTokenizer) or not isinstance(found, CharTokenizer):
        kinds = [f"a {type(tokenizer).__name__} of {tokenizer.vocab_size} tokens" for tokenizer in (saved, found)]
        return f"{kinds[0]}, the files {kinds[1]}, or another"
    missing, extra = set(saved.vocabulary), set(found.vocabulary)
    return (
        f"a vocabulary of {saved.vocab_size}, the files one of {found.vocab_size} "
        f"(only in the checkpoint: {_sample(missing - extra)}, only in the files: {_sample(extra - missing)})"
    )


def _sample(characters: set[str]) -> str:
    return repr("".join(sorted(characters)[:10])) if characters else "none"
