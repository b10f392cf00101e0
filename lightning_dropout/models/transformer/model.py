"""A Transformer with a dropout site at every place where the field puts one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_dropout.layers import Dropout
from lightning_dropout.models.transformer.block import Block, make_norm
from lightning_dropout.models.transformer.cache import LayerCache
from lightning_dropout.models.transformer.config import TransformerConfig, TransformerDropout
from lightning_dropout.models.transformer.generation import GenerationMixin
from lightning_dropout.models.transformer.positions import Rotary
from lightning_dropout.models.transformer.projection import Embedding, Projection

__all__ = ["Transformer"]


class Transformer(GenerationMixin):
    """A causal language model, by default in the form of Llama.

    GPT-2's form is ``position="learned", norm="layer", activation="gelu", bias=True``.

    Args:
        vocab_size: Number of different tokens.
        num_layers: Number of blocks.
        num_heads: Heads of each attention; must divide ``dim``.
        dim: Width of the residual stream.
        context_length: Most tokens that one forward pass can see.
        num_kv_heads: Heads of keys and values, each shared by a group of query heads; default ``num_heads``.
        hidden_dim: Width inside the feed-forward layers; by default 4 ``dim``, and with SwiGLU, which has a third
            matrix, 8/3 ``dim`` rounded up to a multiple of 8.
        position: Learned vectors added to the embeddings, or rotations of queries and keys.
        rotary_base: The slowest rotation takes about this many positions times 2 pi.
        norm: LayerNorm or RMSNorm, at the start of each residual branch.
        norm_eps: What the norm adds to the variance.
        activation: GELU or SwiGLU.
        bias: Whether linear layers and LayerNorm have biases.
        tie_weights: Whether the embedding is also the output layer.
        dropout: The rate of each site.

    Raises:
        ValueError: If the sizes do not fit together.

    Example:
        >>> network = Transformer(65, num_layers=2, num_heads=4, dim=32, context_length=16).eval()
        >>> network(torch.zeros(1, 8, dtype=torch.long)).shape
        torch.Size([1, 8, 65])
        >>> network.generate(torch.tensor([1, 2, 3]), max_new_tokens=5).shape
        torch.Size([8])
    """

    def __init__(
        self,
        vocab_size: int,
        *,
        num_layers: int,
        num_heads: int,
        dim: int,
        context_length: int,
        num_kv_heads: int | None = None,
        hidden_dim: int | None = None,
        position: Literal["learned", "rotary"] = "rotary",
        rotary_base: float = 10000.0,
        norm: Literal["layer", "rms"] = "rms",
        norm_eps: float = 1e-5,
        activation: Literal["gelu", "swiglu"] = "swiglu",
        bias: bool = False,
        tie_weights: bool = True,
        dropout: TransformerDropout = TransformerDropout(),  # noqa: B008
    ) -> None:
        super().__init__()
        self.config = config = TransformerConfig(
            vocab_size=vocab_size,
            num_layers=num_layers,
            num_heads=num_heads,
            dim=dim,
            context_length=context_length,
            num_kv_heads=num_kv_heads or num_heads,
            hidden_dim=hidden_dim or (4 * dim if activation != "swiglu" else -(-dim // 3) * 8),
            position=position,
            rotary_base=rotary_base,
            norm=norm,
            norm_eps=norm_eps,
            activation=activation,
            bias=bias,
            tie_weights=tie_weights,
            dropout=dropout,
        )
        self.embedding = Embedding(vocab_size, dim)
        self.positions = Embedding(context_length, dim) if position == "learned" else None
        self.rotary = (
            Rotary(config.head_dim, context_length=context_length, base=rotary_base) if position == "rotary" else None
        )
        self.emb = Dropout(dropout.emb)
        self.blocks = nn.ModuleList(Block(config) for _ in range(num_layers))
        self.norm = make_norm(config)
        self.head = None if tie_weights else Projection(dim, vocab_size, bias=False)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return self.embedding.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embedding.weight.device

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of the next token at each position: ``(batch, length)`` to ``(batch, length, vocab)``.

        Raises:
            ValueError: If there are more tokens than ``context_length``.
        """
        if ids.shape[1] > self.config.context_length:
            raise ValueError(
                f"Transformer was given {ids.shape[1]} tokens, more than its context_length of "
                f"{self.config.context_length}. Cut the input."
            )
        return self._logits(self._hidden(ids, slice(0, ids.shape[1]), None, None))

    def next_logits(
        self, ids: Tensor, positions: slice | Tensor, mask: Tensor | None, caches: Sequence[LayerCache]
    ) -> Tensor:
        """Read ``ids``, which follow what is in the caches; return the logits after the last, ``(batch, vocab)``."""
        return self._logits(self._hidden(ids, positions, mask, caches)[:, -1])

    def _hidden(
        self, ids: Tensor, positions: slice | Tensor, mask: Tensor | None, caches: Sequence[LayerCache] | None
    ) -> Tensor:
        x = self.embedding(ids)
        if self.positions is not None:
            x = x + self.positions.weight[positions]
        rotation = self.rotary(positions) if self.rotary is not None else None
        x = self.emb(x)
        for index, block in enumerate(self.blocks):
            x = block(x, rotation=rotation, mask=mask, cache=caches[index] if caches is not None else None)
        hidden: Tensor = self.norm(x)
        return hidden

    def _logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.embedding.weight) if self.head is None else self.head(hidden)
