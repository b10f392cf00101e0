"""What a Transformer is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["TransformerConfig", "TransformerDropout"]


@dataclass(frozen=True)
class TransformerDropout:
    """The dropout rate of every site of a Transformer.

    The defaults are those of GPT (Radford et al. 2018), which GPT-2 kept: 0.1 on the embeddings, on the attention
    weights and on what each sublayer adds to the residual stream. The sites that GPT does not have are built at
    rate 0, so that a schedule can raise them.

    Args:
        emb: After the sum of token and position embeddings.
        attn: On the attention weights, after the softmax; or on the context vectors, see ``attn_on``.
        attn_sublayer: After attention's output projection, before the residual addition.
        ff: After the activation, before the second linear layer.
        ff_sublayer: After the second linear layer, before the residual addition.
        layer: Probability that a whole block is skipped.
        attn_on: What ``attn`` drops: ``"weights"`` or ``"context"``.
    """

    emb: float = 0.1
    attn: float = 0.1
    attn_sublayer: float = 0.1
    ff: float = 0.0
    ff_sublayer: float = 0.1
    layer: float = 0.0
    attn_on: Literal["weights", "context"] = "weights"


@dataclass(frozen=True)
class TransformerConfig:
    """The shape of a Transformer; ``Transformer`` takes the same names and explains them."""

    vocab_size: int
    num_layers: int
    num_heads: int
    dim: int
    context_length: int
    num_kv_heads: int
    hidden_dim: int
    position: Literal["learned", "rotary"]
    rotary_base: float
    norm: Literal["layer", "rms"]
    norm_eps: float
    activation: Literal["gelu", "swiglu"]
    bias: bool
    tie_weights: bool
    dropout: TransformerDropout

    def __post_init__(self) -> None:
        for name in ("vocab_size", "num_layers", "num_heads", "dim", "context_length", "num_kv_heads", "hidden_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"Transformer({name}={getattr(self, name)}) is less than 1.")
        if self.dim % self.num_heads:
            raise ValueError(
                f"Transformer(dim={self.dim}, num_heads={self.num_heads}): heads must divide the width. Change one."
            )
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"Transformer(num_heads={self.num_heads}, num_kv_heads={self.num_kv_heads}): key/value heads must "
                "divide the heads. Change one."
            )
        if self.position == "rotary" and self.head_dim % 2:
            raise ValueError(
                f"Transformer(position='rotary', dim={self.dim}, num_heads={self.num_heads}): rotary positions turn "
                f"pairs, but a head is {self.head_dim} wide. Make dim / num_heads even."
            )

    @property
    def residual_gain(self) -> float:
        """Shrinks what each branch adds at the start, so that the sum over layers keeps its size (GPT-2)."""
        return 1.0 / math.sqrt(2 * self.num_layers)

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.dim // self.num_heads
