"""The Transformer, with every dropout site of the field."""

from lightning_dropout.models.transformer.dropout import TransformerDropout
from lightning_dropout.models.transformer.model import Transformer
from lightning_dropout.models.transformer.options import EncoderConfig, PatchConfig, RotaryConfig, RotaryScaling
from lightning_dropout.models.transformer.text import TextGenerator

__all__ = [
    "EncoderConfig",
    "PatchConfig",
    "RotaryConfig",
    "RotaryScaling",
    "TextGenerator",
    "Transformer",
    "TransformerDropout",
]
