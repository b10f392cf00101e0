"""Networks with dropout at every standard place: plain modules that know no callbacks."""

from lightning_dropout.models.cnn import CNN, CNNDropout
from lightning_dropout.models.mlp import MLP, MLPDropout
from lightning_dropout.models.transformer import (
    EncoderConfig,
    PatchConfig,
    RotaryConfig,
    RotaryScaling,
    TextGenerator,
    Transformer,
    TransformerDropout,
)

__all__ = [
    "CNN",
    "MLP",
    "CNNDropout",
    "EncoderConfig",
    "MLPDropout",
    "PatchConfig",
    "RotaryConfig",
    "RotaryScaling",
    "TextGenerator",
    "Transformer",
    "TransformerDropout",
]
