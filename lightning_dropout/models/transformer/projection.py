"""Linear layers and embeddings with the initial values of a Transformer."""

from __future__ import annotations

import math

from torch import nn

__all__ = ["EMBEDDING_STD", "Embedding", "Projection"]

EMBEDDING_STD = 0.02


class Projection(nn.Linear):
    """A linear layer with normal weights of standard deviation ``gain * sqrt(2 / (5 * in_features))``.

    That is GPT-2's 0.02 at its width of 768, but right for other widths too (Nguyen and Salazar 2019). The draw
    lives in ``reset_parameters``, so a model built on the meta device gets the same start.
    """

    def __init__(self, in_features: int, out_features: int, *, bias: bool, gain: float = 1.0) -> None:
        self.gain = gain
        super().__init__(in_features, out_features, bias=bias)

    def reset_parameters(self) -> None:
        """Draw the weights; the bias starts at zero."""
        nn.init.normal_(self.weight, std=self.gain * math.sqrt(0.4 / self.in_features))
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class Embedding(nn.Embedding):
    """An embedding with normal entries of standard deviation ``EMBEDDING_STD``, as in GPT-2."""

    def reset_parameters(self) -> None:
        """Draw the entries."""
        nn.init.normal_(self.weight, std=EMBEDDING_STD)
