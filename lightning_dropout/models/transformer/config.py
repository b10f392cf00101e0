"""What a Transformer is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal, NoReturn

from lightning_dropout.models.checks import check_choices, check_counts, check_dropout
from lightning_dropout.models.transformer.dropout import TransformerDropout
from lightning_dropout.models.transformer.options import EncoderConfig, PatchConfig, RotaryConfig

__all__ = ["TransformerConfig"]


@dataclass(frozen=True)
class TransformerConfig:
    """All that ``Transformer`` was built with; it has the same fields and explains them."""

    vocab_size: int | None
    num_layers: int
    num_heads: int
    dim: int
    context_length: int | None
    num_kv_heads: int | None
    hidden_dim: int | None
    encoder: EncoderConfig | None
    patches: PatchConfig | None
    context_dim: int | None
    position: Literal["learned", "sinusoidal", "rotary"]
    rotary: RotaryConfig
    norm: Literal["layer", "rms"]
    norm_position: Literal["pre", "post", "sublayer"]
    norm_eps: float
    activation: Literal["gelu", "gelu_tanh", "relu", "swiglu"]
    bias: bool
    tie_weights: bool
    dropout: TransformerDropout

    def __post_init__(self) -> None:
        check_choices(self)
        check_dropout("Transformer", self.dropout, TransformerDropout)
        counts = ("num_layers", "num_heads", "dim", "num_kv_heads", "hidden_dim", "context_dim")
        check_counts(self, *counts, "vocab_size", "context_length")
        self._check_input()
        self._check_heads()
        self._check_encoder()
        self._check_dropout()

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.dim // self.num_heads

    @property
    def key_value_heads(self) -> int:
        """``num_kv_heads`` or its default."""
        return self.num_kv_heads or self.num_heads

    @property
    def feed_forward_dim(self) -> int:
        """``hidden_dim`` or its default."""
        return self.hidden_dim or (-(-self.dim // 3) * 8 if self.activation == "swiglu" else 4 * self.dim)

    @property
    def num_prefix(self) -> int:
        """Positions before the sequence: the class token, where there is one."""
        return int(self.encoder is not None and self.encoder.pooling == "class")

    @property
    def num_positions(self) -> int:
        """Positions of the longest input, the class token included."""
        return self.num_prefix + (self.patches.num_patches if self.patches else self.context_length or 0)

    @property
    def embedding_std(self) -> float:
        """Size of the entries of an embedding at the start.

        Where the embedding is the output layer too, logits then start with variance 1; elsewhere the residual stream
        starts at about the size of what the blocks add to it.
        """
        return 1.0 / math.sqrt(self.dim) if self.tie_weights else 0.5

    @property
    def removes_tokens(self) -> bool:
        """Whether token dropout shortens the sequence; where that cannot be, it masks keys."""
        return self.dropout.token_how != "mask" and self.encoder is not None and self.position != "rotary"

    def _check_input(self) -> None:
        if self.patches is None:
            if self.vocab_size is None or self.context_length is None:
                self._refuse("Give both for tokens, or patches for images", "vocab_size", "context_length")
        elif self.vocab_size is not None or self.context_length is not None:
            self._refuse("Images need patches alone", "vocab_size", "context_length", "patches")
        elif self.encoder is None:
            self._refuse("Only an encoder reads images; give one", "patches", "encoder")
        elif self.encoder.padding_id is not None:
            self._refuse("Images have no padding; leave padding_id out", "patches", "encoder.padding_id")

    def _check_heads(self) -> None:
        if self.dim % self.num_heads:
            self._refuse("The number of heads must divide the width", "dim", "num_heads")
        if self.num_heads % self.key_value_heads:
            self._refuse("The number of key/value heads must divide that of heads", "num_heads", "num_kv_heads")
        if self.position == "rotary" and self.head_dim % 2:
            self._refuse("Rotary positions turn pairs, so dim / num_heads must be even", "position", "dim", "num_heads")

    def _check_encoder(self) -> None:
        if self.encoder is None:
            return
        if self.tie_weights:
            self._refuse("An encoder has no output over tokens to tie; leave tie_weights out", "encoder", "tie_weights")
        if self.context_dim is not None:
            self._refuse("Only a decoder attends to a context; leave one out", "encoder", "context_dim")

    def _check_dropout(self) -> None:
        if self.dropout.token_how == "remove" and not self.removes_tokens:
            reason = "Causal order and rotary positions do not survive removal; use 'mask'"
            self._refuse(reason, "dropout.token_how", "encoder", "position")
        if self.dropout.cross_attn_tokens and self.context_dim is None:
            self._refuse("Without a context there is nothing to drop", "dropout.cross_attn_tokens", "context_dim")

    def _refuse(self, reason: str, *fields: str) -> NoReturn:
        values = ", ".join(f"{field}={attrgetter(field)(self)!r}" for field in fields)
        raise ValueError(f"Transformer({values}) makes no sense. {reason}.")
