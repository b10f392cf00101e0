"""A text that is handed on while it is generated."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

__all__ = ["TextStream"]

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


class TextStream:
    """Takes the tokens of one text as they come and hands its new characters on.

    A character may have its bytes in several tokens: what may be such a beginning waits for the next token.

    Args:
        decode: The text of all tokens so far.
        write: Takes the pieces, which together are the text.

    Example:
        >>> import torch
        >>> stream = TextStream(lambda ids: bytes(ids).decode(errors="replace"), print)
        >>> for token in "né".encode():
        ...     stream(torch.tensor([token]))
        n
        é
        >>> stream.close()
    """

    def __init__(self, decode: Callable[[list[int]], str], write: Callable[[str], None]) -> None:
        self._decode, self._write = decode, write
        self._tokens: list[int] = []
        self._num_written = 0

    def __call__(self, tokens: Tensor) -> None:
        """Take the next token, of shape ``(1,)``."""
        self._tokens += tokens.tolist()
        self._hand_on(self._decode(self._tokens).rstrip(_UNFINISHED))

    def close(self) -> None:
        """Hand on what has waited."""
        self._hand_on(self._decode(self._tokens))

    def _hand_on(self, text: str) -> None:
        if len(text) > self._num_written:
            self._write(text[self._num_written :])
            self._num_written = len(text)
