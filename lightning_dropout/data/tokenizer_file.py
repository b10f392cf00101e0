"""Tokenizers as the file ``tokenizer.json`` that the library ``tokenizers`` reads."""

from __future__ import annotations

import json
from typing import Any

from lightning_dropout.data.tokenizers import UNKNOWN, ByteTokenizer, CharTokenizer, FileTokenizer, Tokenizer

__all__ = ["tokenizer_json"]


def tokenizer_json(tokenizer: Tokenizer) -> dict[str, Any]:
    """The content of a ``tokenizer.json`` that gives every text the ids that ``tokenizer`` gives it.

    Example:
        >>> content = tokenizer_json(CharTokenizer.from_text("banana"))
        >>> content["model"]["type"], content["model"]["vocab"]["b"]
        ('WordLevel', 2)
    """
    if isinstance(tokenizer, FileTokenizer):
        content: dict[str, Any] = json.loads(tokenizer.content)
        return content
    if isinstance(tokenizer, ByteTokenizer):
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        vocabulary = {character: byte for byte, character in enumerate(_printable_bytes())}
        return _file({"type": "BPE", "vocab": vocabulary, "merges": []}, pre_tokenizer=byte_level, decoder=byte_level)
    assert isinstance(tokenizer, CharTokenizer)
    vocabulary = {character: index for index, character in enumerate(tokenizer.vocabulary)}
    single = {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": UNKNOWN}
    return _file(model, pre_tokenizer=single, decoder={"type": "Fuse"})


def _file(model: dict[str, Any], **parts: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(("truncation", "padding", "normalizer", "post_processor"))
    return {"version": "1.0", "added_tokens": [], **nothing, **parts, "model": model}


def _printable_bytes() -> list[str]:
    """The character that byte-level BPE writes for every byte: itself if it is printable, else one from 256 on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) if byte in printable else chr(256 + others.index(byte)) for byte in range(256)]
