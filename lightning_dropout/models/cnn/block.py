"""The blocks of a CNN."""

from __future__ import annotations

from torch import Tensor, nn

from lightning_dropout.layers import DropBlock2d, Dropout2d, DropPath
from lightning_dropout.models.cnn.config import CNNDropout

__all__ = ["PlainBlock", "ResidualBlock", "conv3x3", "make_norm"]


def conv3x3(num_in: int, width: int, *, stride: int, bias: bool) -> nn.Conv2d:
    """A 3x3 convolution that keeps the sides of the map, divided by the stride."""
    return nn.Conv2d(num_in, width, 3, stride=stride, padding=1, bias=bias)


def make_norm(width: int, batch_norm: bool) -> nn.Module:
    """A batch norm, or nothing."""
    return nn.BatchNorm2d(width) if batch_norm else nn.Identity()


class Block(nn.Module):
    """What plain and residual blocks share: a norm, a ReLU, and the dropout after one of them."""

    def build_activation(self, width: int, *, batch_norm: bool, dropout: CNNDropout) -> None:
        """Add the modules of ``activate`` at this place in the order of modules."""
        self.norm = make_norm(width, batch_norm)
        self.activation = nn.ReLU()
        self.channel = Dropout2d(dropout.channel)
        size = dropout.block_size
        self.block = nn.Identity() if size is None else DropBlock2d(dropout.block, block_size=size)
        self.drops_norm = dropout.after == "norm"

    def activate(self, x: Tensor) -> Tensor:
        """Norm, ReLU and dropout, for maps ``(batch, width, height, width)``."""
        x = self.norm(x)
        x = self.activation(self.drop(x)) if self.drops_norm else self.drop(self.activation(x))
        return x

    def drop(self, x: Tensor) -> Tensor:
        """Drop channels, then blocks."""
        x = self.block(self.channel(x))
        return x


class PlainBlock(Block):
    """Convolution, norm, ReLU, dropout."""

    def __init__(self, num_in: int, width: int, *, stride: int, batch_norm: bool, dropout: CNNDropout) -> None:
        super().__init__()
        self.conv = conv3x3(num_in, width, stride=stride, bias=not batch_norm)
        self.build_activation(width, batch_norm=batch_norm, dropout=dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, num_in, ...)`` to ``(batch, width, ...)``, the sides divided by the stride."""
        return self.activate(self.conv(x))


class ResidualBlock(Block):
    """Two convolutions, each after its norm and ReLU, added to what came in (He et al. 2016, "pre-activation").

    So that the branch ends with a convolution: path dropout does not stand right after a norm either.
    """

    def __init__(
        self, num_in: int, width: int, *, stride: int, batch_norm: bool, dropout: CNNDropout, path: float
    ) -> None:
        super().__init__()
        self.entry = nn.Sequential(make_norm(num_in, batch_norm), nn.ReLU())
        self.conv1 = conv3x3(num_in, width, stride=stride, bias=not batch_norm)
        self.build_activation(width, batch_norm=batch_norm, dropout=dropout)
        self.conv2 = conv3x3(width, width, stride=1, bias=True)
        self.path = DropPath(path)
        same_shape = stride == 1 and num_in == width
        self.shortcut = nn.Identity() if same_shape else nn.Conv2d(num_in, width, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, num_in, ...)`` to ``(batch, width, ...)``, the sides divided by the stride."""
        branch = self.conv2(self.activate(self.conv1(self.entry(x))))
        x = self.shortcut(x) + self.path(branch)
        return x
