"""Dropout layers, one family per file; every one has a rate that can be scheduled without recompiling."""

from lightning_dropout.layers.addnorm import AddNorm
from lightning_dropout.layers.attention import AttentionDropout, ContextDropout
from lightning_dropout.layers.concrete import ConcreteDropout, concrete_regularization
from lightning_dropout.layers.dropblock import DropBlock2d
from lightning_dropout.layers.dropconnect import DropConnect
from lightning_dropout.layers.dropout import (
    AlphaDropout,
    Dropout,
    Dropout1d,
    Dropout2d,
    Dropout3d,
    FeatureAlphaDropout,
)
from lightning_dropout.layers.embedding import EmbeddingDropout
from lightning_dropout.layers.gaussian import GaussianDropout
from lightning_dropout.layers.head import HeadDropout
from lightning_dropout.layers.layer import LayerDropout
from lightning_dropout.layers.locked import LockedDropout
from lightning_dropout.layers.path import DropPath
from lightning_dropout.layers.profiles import Profile, exponential, linear, uniform
from lightning_dropout.layers.rate import LiveRate, RateVector
from lightning_dropout.layers.tokens import TokenDropout

__all__ = [
    "AddNorm",
    "AlphaDropout",
    "AttentionDropout",
    "ConcreteDropout",
    "ContextDropout",
    "DropBlock2d",
    "DropConnect",
    "DropPath",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "EmbeddingDropout",
    "FeatureAlphaDropout",
    "GaussianDropout",
    "HeadDropout",
    "LayerDropout",
    "LiveRate",
    "LockedDropout",
    "Profile",
    "RateVector",
    "TokenDropout",
    "concrete_regularization",
    "exponential",
    "linear",
    "uniform",
]
