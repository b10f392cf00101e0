"""A Transformer with a dropout site at every place where the field puts one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_dropout.layers import Dropout, TokenDropout
from lightning_dropout.models.transformer.block import Block
from lightning_dropout.models.transformer.cache import LayerCache
from lightning_dropout.models.transformer.checkpoint import CheckpointMixin
from lightning_dropout.models.transformer.config import TransformerConfig
from lightning_dropout.models.transformer.dropout import TransformerDropout
from lightning_dropout.models.transformer.embedding import ClassToken, make_embedding
from lightning_dropout.models.transformer.generation import GenerationMixin
from lightning_dropout.models.transformer.head import make_head, pool
from lightning_dropout.models.transformer.norm import make_norm
from lightning_dropout.models.transformer.options import EncoderConfig, PatchConfig, RotaryConfig
from lightning_dropout.models.transformer.positions import Positions, Rotary, make_positions
from lightning_dropout.models.transformer.projection import Embedding
from lightning_dropout.models.transformer.scope import Context, Scope, attention_mask

__all__ = ["Transformer"]


class Transformer(GenerationMixin, CheckpointMixin):
    """A causal language model, an encoder that classifies text or images, or a decoder that attends to a context.

    By default in the form of Llama. GPT-2's form is ``position="learned", norm="layer", activation="gelu_tanh",
    bias=True, tie_weights=True``, that of Vaswani et al. (2017) ``position="sinusoidal", norm="layer",
    norm_position="post", activation="relu", bias=True``.

    Args:
        vocab_size: Number of different tokens; none for images.
        num_layers: Number of blocks.
        num_heads: Heads of each attention.
        dim: Width of the residual stream.
        context_length: Most tokens that one forward pass can see; for images the number of patches.
        num_kv_heads: Heads of keys and values, each shared by a group of query heads; by default ``num_heads``.
        hidden_dim: Width inside the feed-forward layers; by default 4 ``dim``, and with SwiGLU, which has a third
            matrix, 8/3 ``dim`` rounded up to a multiple of 8.
        encoder: Makes the network an encoder.
        patches: Makes an encoder read images.
        context_dim: Makes a decoder attend to a context of this width, after each self-attention.
        position: Vectors added to the embeddings, or rotations of queries and keys.
        rotary: Options of rotary positions.
        norm: LayerNorm or RMSNorm.
        norm_position: Before each sublayer, after its residual addition, or on its output before the addition.
        norm_eps: What the norm adds to the variance.
        activation: GELU, exact or as GPT-2 approximates it, ReLU or SwiGLU.
        bias: Whether the linear layers and LayerNorm of the blocks have biases.
        tie_weights: Whether the embedding is also the output layer.
        dropout: The rate of each site.

    Raises:
        ValueError: If options do not fit together.

    Example:
        >>> import torch
        >>> network = Transformer(65, num_layers=2, num_heads=4, dim=32, context_length=16).eval()
        >>> network(torch.zeros(1, 8, dtype=torch.long)).shape
        torch.Size([1, 8, 65])
        >>> network.generate(torch.tensor([1, 2, 3]), max_new_tokens=5).shape
        torch.Size([8])
        >>> encoder, patches = EncoderConfig(num_classes=10), PatchConfig(image_size=28, patch_size=7, in_channels=1)
        >>> network = Transformer(num_layers=2, num_heads=4, dim=32, encoder=encoder, patches=patches)
        >>> network(torch.zeros(5, 1, 28, 28)).shape
        torch.Size([5, 10])
    """

    def __init__(
        self,
        vocab_size: int | None = None,
        *,
        num_layers: int,
        num_heads: int,
        dim: int,
        context_length: int | None = None,
        num_kv_heads: int | None = None,
        hidden_dim: int | None = None,
        encoder: EncoderConfig | None = None,
        patches: PatchConfig | None = None,
        context_dim: int | None = None,
        position: Literal["learned", "sinusoidal", "rotary"] = "rotary",
        rotary: RotaryConfig = RotaryConfig(),  # noqa: B008
        norm: Literal["layer", "rms"] = "rms",
        norm_position: Literal["pre", "post", "sublayer"] = "pre",
        norm_eps: float = 1e-5,
        activation: Literal["gelu", "gelu_tanh", "relu", "swiglu"] = "swiglu",
        bias: bool = False,
        tie_weights: bool = False,
        dropout: TransformerDropout = TransformerDropout(),  # noqa: B008
    ) -> None:
        super().__init__()
        self.config = config = TransformerConfig(
            vocab_size=vocab_size,
            num_layers=num_layers,
            num_heads=num_heads,
            dim=dim,
            context_length=context_length,
            num_kv_heads=num_kv_heads,
            hidden_dim=hidden_dim,
            encoder=encoder,
            patches=patches,
            context_dim=context_dim,
            position=position,
            rotary=rotary,
            norm=norm,
            norm_position=norm_position,
            norm_eps=norm_eps,
            activation=activation,
            bias=bias,
            tie_weights=tie_weights,
            dropout=dropout,
        )
        self.embedding = make_embedding(config)
        self.class_token = ClassToken(dim, std=config.embedding_std) if config.num_prefix else None
        self.positions = make_positions(config)
        self.emb = Dropout(dropout.emb)
        self.token = TokenDropout(
            dropout.token,
            num_prefix=config.num_prefix if encoder else 1,
            how="remove" if config.removes_tokens else "mask",
        )
        if context_dim is not None:
            self.cross_attn_tokens = TokenDropout(dropout.cross_attn_tokens, num_prefix=0)
        self.rotary = Rotary(config.num_positions, config.head_dim, rotary) if position == "rotary" else None
        self.blocks = nn.ModuleList(Block(config, depth=depth) for depth in range(num_layers))
        self.norm = make_norm(config) if norm_position != "post" else nn.Identity()
        self.head = make_head(config)

    def forward(
        self,
        inputs: Tensor,
        *,
        mask: Tensor | None = None,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
    ) -> Tensor:
        """Logits of the next token at each position, ``(batch, length, vocab)``, or of classes, ``(batch, classes)``.

        Args:
            inputs: Token ids, ``(batch, length)``, or images, ``(batch, channels, side, side)``.
            mask: False where a token is padding, ``(batch, length)``.
            context: What a decoder attends to, ``(batch, keys, context_dim)``.
            context_mask: False where the context is padding, ``(batch, keys)``.

        Raises:
            ValueError: If the inputs are too long or of another shape, or a context is missing or not wanted.
        """
        encoder = self.config.encoder
        if mask is None and encoder is not None and encoder.padding_id is not None:
            mask = inputs != encoder.padding_id
            mask = mask | ~mask.any(dim=1, keepdim=True)  # an empty text is read as it stands: its mean would be NaN
        x = self.embedding(inputs)
        if self.class_token is not None:
            x = self.class_token(x)
            mask = None if mask is None else F.pad(mask, (1, 0), value=True)
        self._check_length(x)
        positions = slice(x.shape[1])
        x, mask = self.token(self._place(x, positions), mask)
        scope = Scope(
            rotation=self._rotation(positions),
            mask=attention_mask(mask, is_causal=encoder is None),
            is_causal=encoder is None and mask is None,
            context=self.prepare_context(context, context_mask),
        )
        for block in self.blocks:
            x = block(x, scope)
        x = self.norm(x)
        return self._logits(x if encoder is None else pool(x, mask, encoder.pooling))

    def read(
        self,
        ids: Tensor,
        positions: Positions,
        *,
        mask: Tensor | None,
        context: Context | None,
        caches: Sequence[LayerCache],
        drops: bool = True,
    ) -> Tensor:
        """Logits of the token after ``ids``, ``(batch, vocab)``; the caches hold what stands before them.

        ``drops`` says whether any dropout is active.
        """
        x = self._place(self.embedding(ids), positions)
        is_causal = mask is None and ids.shape[1] > 1
        scope = Scope(rotation=self._rotation(positions), mask=mask, is_causal=is_causal, context=context, drops=drops)
        for block, cache in zip(self.blocks, caches, strict=True):
            x = block(x, scope, cache=cache)
        return self._logits(self.norm(x[:, -1]))

    def prepare_context(self, context: Tensor | None, mask: Tensor | None = None) -> Context | None:
        """The context as the blocks read it, after its token dropout.

        Raises:
            ValueError: If the network needs a context and there is none, or the reverse.
        """
        if (context is None) != (self.config.context_dim is None):
            found = "no context" if context is None else "a context"
            raise ValueError(
                f"Transformer was given {found}, but was built with context_dim={self.config.context_dim}. Change one."
            )
        if context is None:
            return None
        context, mask = self.cross_attn_tokens(context, mask)
        return Context(context, attention_mask(mask, is_causal=False))

    def _place(self, x: Tensor, positions: Positions) -> Tensor:
        """Add positions where they are vectors, then drop."""
        placed: Tensor = self.emb(x if self.positions is None else x + self.positions(positions))
        return placed

    def _rotation(self, positions: Positions) -> Tensor | None:
        return None if self.rotary is None else self.rotary(positions)

    def _logits(self, x: Tensor) -> Tensor:
        logits: Tensor = F.linear(x, cast(Embedding, self.embedding).weight) if self.head is None else self.head(x)
        return logits

    def _check_length(self, x: Tensor) -> None:
        if x.shape[1] > self.config.num_positions:
            raise ValueError(
                f"Transformer was given {x.shape[1] - self.config.num_prefix} tokens, more than its context_length of "
                f"{self.config.context_length}. Cut the input."
            )
