"""From text to token ids and back."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["UNKNOWN", "ByteTokenizer", "CharTokenizer", "FileTokenizer", "Tokenizer"]

#: What token 0 stands for: any character that the vocabulary lacks.
UNKNOWN = "\N{REPLACEMENT CHARACTER}"


class Tokenizer(Protocol):
    """From text to token ids and back."""

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        ...

    def encode(self, text: str) -> Tensor:
        """Token ids of ``text``, int64 of shape ``(length,)``."""
        ...

    def decode(self, ids: Tensor | Sequence[int]) -> str:
        """The text of ``ids``, of shape ``(length,)``."""
        ...

    def state_dict(self) -> dict[str, str]:
        """What ``tokenizer_from_state`` makes it from again."""
        ...


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
        return "".join(self.vocabulary[token] for token in _known(self, ids))

    def state_dict(self) -> dict[str, str]:
        """The vocabulary."""
        return {"vocabulary": self.vocabulary}

    @cached_property
    def _ids(self) -> NDArray[np.int64]:
        ids = np.zeros(sys.maxunicode + 1, dtype=np.int64)
        ids[_code_points(self.vocabulary)] = np.arange(self.vocab_size)
        return ids


@dataclass(frozen=True)
class ByteTokenizer:
    """One token per byte of UTF-8: any text, with 256 tokens.

    Example:
        >>> ByteTokenizer().encode("né")
        tensor([110, 195, 169])
    """

    @property
    def vocab_size(self) -> int:
        """256."""
        return 256

    def encode(self, text: str) -> Tensor:
        """Token ids of ``text``, int64 of shape ``(num_bytes,)``."""
        return torch.from_numpy(np.frombuffer(text.encode(), np.uint8).astype(np.int64))

    def decode(self, ids: Tensor | Sequence[int]) -> str:
        """The text of ``ids``, of shape ``(num_bytes,)``; a replacement character for what is not UTF-8.

        Raises:
            ValueError: If an id is not in the vocabulary.
        """
        return _known(self, ids).astype(np.uint8).tobytes().decode(errors="replace")

    def state_dict(self) -> dict[str, str]:
        """Its name."""
        return {"tokenizer": "byte"}


@dataclass(frozen=True)
class FileTokenizer:
    """A tokenizer of the library ``tokenizers``; special tokens are not added.

    Args:
        content: Of a file ``tokenizer.json``.
    """

    content: str

    @classmethod
    def from_file(cls, path: str) -> FileTokenizer:
        """Read a file ``tokenizer.json``.

        Raises:
            ValueError: If the file is none.
        """
        try:
            with open(path, encoding="utf-8") as file:
                tokenizer = cls(file.read())
            _ = tokenizer.vocab_size
        except ModuleNotFoundError:
            raise ModuleNotFoundError(
                f"{path} needs the package 'tokenizers'. pip install 'lightning-dropout[checkpoints]'."
            ) from None
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f"{path} is no tokenizer.json ({error}).") from None
        return tokenizer

    @property
    def vocab_size(self) -> int:
        """Number of tokens, those that were added included."""
        return int(self._tokenizer.get_vocab_size())

    def encode(self, text: str) -> Tensor:
        """Token ids of ``text``, int64 of shape ``(length,)``."""
        return torch.tensor(self._tokenizer.encode(text, add_special_tokens=False).ids, dtype=torch.int64)

    def decode(self, ids: Tensor | Sequence[int]) -> str:
        """The text of ``ids``, of shape ``(length,)``, special tokens left out.

        Raises:
            ValueError: If an id is not in the vocabulary.
        """
        return str(self._tokenizer.decode(_known(self, ids).tolist()))

    def state_dict(self) -> dict[str, str]:
        """The content of its file."""
        return {"tokenizer": self.content}

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(self.content)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    def __getstate__(self) -> dict[str, str]:
        return {"content": self.content}


def _known(tokenizer: Tokenizer, ids: Tensor | Sequence[int]) -> NDArray[np.int64]:
    tokens = np.asarray(ids, dtype=np.int64)
    if tokens.size and not 0 <= tokens.min() <= tokens.max() < tokenizer.vocab_size:
        raise ValueError(
            f"{type(tokenizer).__name__}.decode: found ids from {tokens.min()} to {tokens.max()}. "
            f"Give ids from 0 to {tokenizer.vocab_size - 1}."
        )
    return tokens


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
