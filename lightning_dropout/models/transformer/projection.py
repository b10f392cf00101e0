"""Linear layers and embeddings with the initial values of a Transformer."""

from __future__ import annotations

import math

from torch import nn

__all__ = ["Embedding", "Projection"]


class Projection(nn.Linear):
    """A linear layer with normal weights of standard deviation ``sqrt(2 / (5 * in_features))``.

    That is GPT-2's 0.02 at its width of 768, but right for other widths too (Nguyen and Salazar 2019). The draw lives
    in ``reset_parameters``, so that a model built on the meta device gets the same start.
    """

    def reset_parameters(self) -> None:
        """Draw the weights; the bias starts at zero."""
        nn.init.normal_(self.weight, std=math.sqrt(0.4 / self.in_features))
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class Embedding(nn.Embedding):
    """An embedding with normal entries of standard deviation ``std``."""

    def __init__(self, num_embeddings: int, embedding_dim: int, *, std: float) -> None:
        self.std = std
        super().__init__(num_embeddings, embedding_dim)

    def reset_parameters(self) -> None:
        """Draw the entries."""
        nn.init.normal_(self.weight, std=self.std)
