"""Dropout layers, one family per file; every one has a rate that can be scheduled without recompiling."""

from lightning_dropout.layers.dropout import AlphaDropout, Dropout, Dropout1d, Dropout2d, Dropout3d
from lightning_dropout.layers.rate import LiveRate, RateVector

__all__ = ["AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "LiveRate", "RateVector"]
