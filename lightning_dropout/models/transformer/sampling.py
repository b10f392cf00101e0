"""Choose the next token from its logits."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["check_sampling", "choose_tokens"]


def check_sampling(*, temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Refuse what ``choose_tokens`` could not use.

    Raises:
        ValueError: If an option is out of its range.
    """
    if temperature < 0.0:
        raise ValueError(f"temperature={temperature} is negative. Give 0 for the likeliest token, or more to draw one.")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k={top_k} leaves no token to draw. Give 1 or more.")
    if top_p is not None and not 0.0 < top_p <= 1.0:
        raise ValueError(f"top_p={top_p} is no probability above 0. Give a number in (0, 1].")


def choose_tokens(
    logits: Tensor,
    *,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Choose one token per row of ``logits``, ``(batch, vocab)``: the likeliest at temperature 0, else a drawn one.

    Only the ``top_k`` likeliest tokens can be drawn, and of those only the fewest whose probabilities sum to at least
    ``top_p``.

    Example:
        >>> choose_tokens(torch.tensor([[0.0, 3.0, 1.0], [2.0, 0.0, 1.0]]))
        tensor([1, 0])
    """
    if temperature == 0.0:
        return logits.argmax(dim=-1)
    logits = logits.float() / temperature
    if top_k is not None:
        least = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]
        logits = logits.masked_fill(logits < least, float("-inf"))
    probabilities = logits.softmax(dim=-1)
    if top_p is not None:
        ordered, tokens = probabilities.sort(dim=-1, descending=True)
        outside = ordered.cumsum(dim=-1) - ordered >= top_p
        probabilities = torch.zeros_like(ordered).scatter(-1, tokens, ordered.masked_fill(outside, 0.0))
    return torch.multinomial(probabilities, 1, generator=generator).squeeze(-1)
