"""One layer of a Transformer."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from lightning_dropout.layers import Dropout, DropPath, HeadDropout, LayerDropout
from lightning_dropout.layers.attention import AttentionDropout, ContextDropout
from lightning_dropout.models.transformer.attention import SelfAttention
from lightning_dropout.models.transformer.cache import LayerCache
from lightning_dropout.models.transformer.config import TransformerConfig
from lightning_dropout.models.transformer.cross_attention import CrossAttention
from lightning_dropout.models.transformer.feedforward import FeedForward
from lightning_dropout.models.transformer.norm import make_norm
from lightning_dropout.models.transformer.scope import Scope

__all__ = ["Block"]


class Block(nn.Module):
    """Attention and feed-forward, each on a residual branch.

    The dropout layers hang here and not in the parts that use them, so that the names of the sites are short:
    ``blocks.0.attn`` is the dropout inside ``blocks.0.attention``.
    """

    def __init__(self, config: TransformerConfig, *, depth: int) -> None:
        super().__init__()
        rates = config.dropout
        attention_dropout = AttentionDropout if rates.attn_on == "weights" else ContextDropout
        self.norm_position = config.norm_position
        self.attention_norm = make_norm(config)
        self.attention = SelfAttention(config)
        self.attn = attention_dropout(rates.attn)
        self.attn_head = HeadDropout(rates.attn_head)
        self.attn_sublayer = Dropout(rates.attn_sublayer)
        self.has_context = config.context_dim is not None
        if config.context_dim is not None:
            self.cross_attention_norm = make_norm(config)
            self.cross_attention = CrossAttention(config, config.context_dim)
            self.cross_attn = attention_dropout(rates.attn)
            self.cross_attn_head = HeadDropout(rates.attn_head)
            self.cross_attn_sublayer = Dropout(rates.attn_sublayer)
        self.feed_forward_norm = make_norm(config)
        self.feed_forward = FeedForward(config)
        self.ff = Dropout(rates.ff)
        self.ff_sublayer = Dropout(rates.ff_sublayer)
        self.path = DropPath(rates.path_rates(config.num_layers)(depth))
        self.layer = LayerDropout(rates.layer)

    def forward(self, x: Tensor, scope: Scope, *, cache: LayerCache | None = None) -> Tensor:
        """Transform ``x``, ``(batch, length, dim)``."""
        # What a sublayer returns has no name, so that its memory is free, and in the cache, when the next one runs.
        hidden = self._leave(
            x,
            self.attention(
                self._enter(x, self.attention_norm), scope, dropout=self.attn, head_dropout=self.attn_head, cache=cache
            ),
            scope,
            self.attention_norm,
            self.attn_sublayer,
        )
        if self.has_context:
            hidden = self._leave(
                hidden,
                self.cross_attention(
                    self._enter(hidden, self.cross_attention_norm),
                    scope,
                    dropout=self.cross_attn,
                    head_dropout=self.cross_attn_head,
                    cache=cache,
                ),
                scope,
                self.cross_attention_norm,
                self.cross_attn_sublayer,
            )
        hidden = self._leave(
            hidden,
            self.feed_forward(self._enter(hidden, self.feed_forward_norm), scope, dropout=self.ff),
            scope,
            self.feed_forward_norm,
            self.ff_sublayer,
        )
        output: Tensor = self.layer(x, hidden) if scope.drops else hidden
        return output

    def _enter(self, x: Tensor, norm: Callable[[Tensor], Tensor]) -> Tensor:
        return norm(x) if self.norm_position == "pre" else x

    def _leave(
        self,
        x: Tensor,
        branch: Tensor,
        scope: Scope,
        norm: Callable[[Tensor], Tensor],
        dropout: Callable[[Tensor], Tensor],
    ) -> Tensor:
        if self.norm_position == "sublayer":
            branch = norm(branch)
        hidden: Tensor = x + (self.path(dropout(branch)) if scope.drops else branch)
        return norm(hidden) if self.norm_position == "post" else hidden
