"""One layer of a Transformer."""

from __future__ import annotations

from torch import Tensor, nn

from lightning_dropout.layers import Dropout
from lightning_dropout.layers.attention import AttentionDropout, ContextDropout
from lightning_dropout.layers.layer import LayerDropout
from lightning_dropout.models.transformer.attention import SelfAttention
from lightning_dropout.models.transformer.cache import LayerCache
from lightning_dropout.models.transformer.config import TransformerConfig
from lightning_dropout.models.transformer.feedforward import FeedForward

__all__ = ["Block", "make_norm"]


class Block(nn.Module):
    """Attention and feed-forward, each on a residual branch.

    The dropout layers hang here and not in the parts that use them, so that the names of the sites are short:
    ``blocks.0.attn`` is the dropout inside ``blocks.0.attention``.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        rates = config.dropout
        self.attention_norm = make_norm(config)
        self.attention = SelfAttention(config)
        self.attn = (AttentionDropout if rates.attn_on == "weights" else ContextDropout)(rates.attn)
        self.attn_sublayer = Dropout(rates.attn_sublayer)
        self.feed_forward_norm = make_norm(config)
        self.feed_forward = FeedForward(config)
        self.ff = Dropout(rates.ff)
        self.ff_sublayer = Dropout(rates.ff_sublayer)
        self.layer = LayerDropout(rates.layer)

    def forward(
        self,
        x: Tensor,
        *,
        rotation: Tensor | None = None,
        mask: Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """Transform ``x``, ``(batch, length, dim)``."""
        attended = self.attention(self.attention_norm(x), dropout=self.attn, rotation=rotation, mask=mask, cache=cache)
        hidden = x + self.attn_sublayer(attended)
        hidden = hidden + self.ff_sublayer(self.feed_forward(self.feed_forward_norm(hidden), dropout=self.ff))
        output: Tensor = self.layer(x, hidden)
        return output


def make_norm(config: TransformerConfig) -> nn.Module:
    """The normalisation that ``config`` asks for."""
    if config.norm == "rms":
        return nn.RMSNorm(config.dim, eps=config.norm_eps)
    return nn.LayerNorm(config.dim, eps=config.norm_eps, bias=config.bias)
