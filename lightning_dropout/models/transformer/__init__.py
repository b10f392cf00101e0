"""The Transformer: a language model with every dropout site of the field."""

from lightning_dropout.models.transformer.config import TransformerDropout
from lightning_dropout.models.transformer.model import Transformer

__all__ = ["Transformer", "TransformerDropout"]
