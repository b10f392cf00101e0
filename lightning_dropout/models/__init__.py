"""Networks with dropout at every standard place: plain modules that know no callbacks."""

from lightning_dropout.models.transformer import Transformer, TransformerDropout

__all__ = ["Transformer", "TransformerDropout"]
