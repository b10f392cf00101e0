"""Dropout layers, one family per file; every one has a rate that can be scheduled without recompiling."""

from lightning_dropout.layers.dropout import AlphaDropout, Dropout, Dropout1d, Dropout2d, Dropout3d
from lightning_dropout.layers.head import HeadDropout
from lightning_dropout.layers.layer import LayerDropout
from lightning_dropout.layers.path import DropPath
from lightning_dropout.layers.rate import LiveRate, RateVector
from lightning_dropout.layers.token import TokenDropout

__all__ = [
    "AlphaDropout",
    "DropPath",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "HeadDropout",
    "LayerDropout",
    "LiveRate",
    "RateVector",
    "TokenDropout",
]
