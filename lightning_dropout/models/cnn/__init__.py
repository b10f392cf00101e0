"""A convolutional network, plain or residual, with the dropout that convolutions want."""

from lightning_dropout.models.cnn.config import CNNDropout
from lightning_dropout.models.cnn.model import CNN

__all__ = ["CNN", "CNNDropout"]
