"""From tokens or images to the residual stream."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_dropout.models.transformer.config import TransformerConfig
from lightning_dropout.models.transformer.options import PatchConfig
from lightning_dropout.models.transformer.projection import Embedding, Projection

__all__ = ["ClassToken", "PatchEmbedding", "make_embedding"]


class PatchEmbedding(nn.Module):
    """Cuts images into patches and projects each: ``(batch, channels, side, side)`` to ``(batch, patches, dim)``."""

    def __init__(self, config: PatchConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        self.projection = Projection(config.in_channels * config.patch_size * config.patch_size, dim, bias=True)

    def forward(self, images: Tensor) -> Tensor:
        """Embed ``images``.

        Raises:
            ValueError: If they are not of the shape that the network was built for.
        """
        expected = (self.config.in_channels, self.config.image_size, self.config.image_size)
        if images.shape[1:] != expected:
            raise ValueError(
                f"Transformer was given images of shape {tuple(images.shape[1:])}, but its patches={self.config} need "
                f"{expected}. Change one."
            )
        patches = F.pixel_unshuffle(images, self.config.patch_size).flatten(2).transpose(1, 2)
        embedded: Tensor = self.projection(patches)
        return embedded


class ClassToken(nn.Module):
    """A learned token in front of every sequence."""

    def __init__(self, dim: int, *, std: float) -> None:
        super().__init__()
        self.std = std
        self.weight = nn.Parameter(torch.empty(dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the token."""
        nn.init.normal_(self.weight, std=self.std)

    def forward(self, x: Tensor) -> Tensor:
        """Put the token in front of ``x``, ``(batch, length, dim)``."""
        return torch.cat((self.weight.expand(x.shape[0], 1, -1), x), dim=1)


def make_embedding(config: TransformerConfig) -> Embedding | PatchEmbedding:
    """The embedding that ``config`` asks for, of tokens or of patches."""
    if config.patches is not None:
        return PatchEmbedding(config.patches, config.dim)
    assert config.vocab_size is not None
    return Embedding(config.vocab_size, config.dim, std=config.embedding_std)
