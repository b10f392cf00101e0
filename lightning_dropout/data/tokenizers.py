"""From text to token ids and back."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["UNKNOWN", "CharTokenizer"]

#: What token 0 stands for: any character that the vocabulary lacks.
UNKNOWN = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class CharTokenizer:
    """One token per character; token 0 stands for every character that is not in the vocabulary.

    Args:
        vocabulary: The characters in the order of their ids, the first being the replacement character.

    Example:
        >>> tokenizer = CharTokenizer.from_text("banana")
        >>> tokenizer.vocab_size
        4
        >>> tokenizer.encode("bandana")
        tensor([2, 1, 3, 0, 1, 3, 1])
        >>> tokenizer.decode([2, 1, 3])
        'ban'
    """

    vocabulary: str

    @classmethod
    def from_text(cls, text: str) -> CharTokenizer:
        """Take every character of ``text`` into the vocabulary, in order of code point."""
        return cls(UNKNOWN + "".join(sorted(set(text) - {UNKNOWN})))

    @property
    def vocab_size(self) -> int:
        """Number of tokens, the unknown one included."""
        return len(self.vocabulary)

    def encode(self, text: str) -> Tensor:
        """Token ids of ``text``, int64 of shape ``(length,)``."""
        return torch.from_numpy(self._ids[_code_points(text)])

    def decode(self, ids: Tensor | Sequence[int]) -> str:
        """The text of ``ids``, of shape ``(length,)``.

        Raises:
            ValueError: If an id is not in the vocabulary.
        """
        tokens = np.asarray(ids, dtype=np.int64)
        if tokens.size and not 0 <= tokens.min() <= tokens.max() < self.vocab_size:
            raise ValueError(
                f"CharTokenizer.decode: found ids from {tokens.min()} to {tokens.max()}. "
                f"Give ids from 0 to {self.vocab_size - 1}."
            )
        return "".join(self.vocabulary[token] for token in tokens)

    @cached_property
    def _ids(self) -> NDArray[np.int64]:
        ids = np.zeros(sys.maxunicode + 1, dtype=np.int64)
        ids[_code_points(self.vocabulary)] = np.arange(self.vocab_size)
        return ids


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
