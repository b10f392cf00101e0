"""Texts as token ids: in memory, or in a file that is mapped into memory."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_dropout.data.corpus import Corpus
from lightning_dropout.data.tokenizer_choice import tokenizer_from_state
from lightning_dropout.data.tokenizers import CharTokenizer, Tokenizer
from lightning_dropout.data.windows import TokenFile

__all__ = ["encode", "first_tokens", "learn_tokenizer", "read_tokens"]

# Characters that are encoded at a time, so that the work space stays small beside the tokens.
_CHUNK = 1 << 20


def learn_tokenizer(pieces: Iterable[str], *, fraction: float = 1.0) -> CharTokenizer:
    """A token for every character of the first ``fraction`` of a text, which is read once.

    Example:
        >>> learn_tokenizer(["abc", "de"], fraction=0.6).decode([1, 2, 3])
        'abc'
    """
    first: dict[str, int] = {}
    num_chars = 0
    for piece in pieces:
        first.update((character, num_chars + piece.index(character)) for character in set(piece) - first.keys())
        num_chars += len(piece)
    cut = int(num_chars * fraction)
    return CharTokenizer.from_text("".join(character for character, position in first.items() if position < cut))


def encode(pieces: Iterable[str], tokenizer: Tokenizer) -> Iterator[NDArray[Any]]:
    """Token ids of each piece, of the narrowest type, those of a long piece in several arrays."""
    dtype = _narrow(tokenizer)
    for piece in pieces:
        for start in range(0, len(piece), _CHUNK):
            yield tokenizer.encode(piece[start : start + _CHUNK]).numpy().astype(dtype)


def read_tokens(
    corpus: Corpus, tokenizer: Tokenizer | None, *, fraction: float = 1.0, folder: str | None = None
) -> tuple[Tensor | TokenFile, Tokenizer]:
    """All tokens of a text, of the narrowest type, and what made them.

    Args:
        corpus: The text.
        tokenizer: By default one of the characters in the first ``fraction`` of the text.
        fraction: See ``tokenizer``.
        folder: Where to keep the tokens in a file, rather than in memory.
    """
    if folder is not None:
        return _write_tokens(Path(folder).expanduser(), corpus, tokenizer, fraction)
    pieces = list(corpus)
    tokenizer = tokenizer or learn_tokenizer(pieces, fraction=fraction)
    return _join(encode(pieces, tokenizer), tokenizer), tokenizer


def first_tokens(corpus: Corpus, tokenizer: Tokenizer, num_tokens: int) -> Tensor:
    """The first tokens of a text, of which no more is read."""
    parts = []
    for ids in encode(corpus, tokenizer):
        parts.append(ids[:num_tokens])
        num_tokens -= len(parts[-1])
        if num_tokens == 0:
            break
    return _join(parts, tokenizer)


def _write_tokens(
    folder: Path, corpus: Corpus, tokenizer: Tokenizer | None, fraction: float
) -> tuple[TokenFile, Tokenizer]:
    """Tokens in a file, unless it is there already.

    A file gets its name when it is complete, so several processes may do this at once.
    """
    key = {**corpus.key(), "tokenizer": fraction if tokenizer is None else tokenizer.state_dict()}
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    path, saved = folder / f"{name}.tokens", folder / f"{name}.json"
    if not saved.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer = tokenizer or learn_tokenizer(corpus, fraction=fraction)
        part = path.with_suffix(f".part-{os.getpid()}")
        try:
            with part.open("wb") as file:
                num_tokens = sum(file.write(ids.tobytes()) // ids.itemsize for ids in encode(corpus, tokenizer))
            part.replace(path)
            part.write_text(json.dumps({"num_tokens": num_tokens, "tokenizer": tokenizer.state_dict()}))
            part.replace(saved)
        finally:
            part.unlink(missing_ok=True)
    content = json.loads(saved.read_text())
    tokenizer = tokenizer_from_state(content["tokenizer"])
    return TokenFile(str(path), _narrow(tokenizer).name, 0, content["num_tokens"]), tokenizer


def _join(parts: Iterable[NDArray[Any]], tokenizer: Tokenizer) -> Tensor:
    return torch.from_numpy(np.concatenate([np.empty(0, _narrow(tokenizer)), *parts]))


def _narrow(tokenizer: Tokenizer) -> np.dtype[Any]:
    return np.dtype(np.min_scalar_type(tokenizer.vocab_size - 1))
