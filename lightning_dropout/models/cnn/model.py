"""A convolutional network, plain or residual, with the dropout that convolutions want."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from operator import mul

from torch import Tensor, nn

from lightning_dropout.layers import Dropout, linear
from lightning_dropout.models.checks import check_dropout, check_sizes, check_widths
from lightning_dropout.models.cnn.block import PlainBlock, ResidualBlock, conv3x3, make_norm
from lightning_dropout.models.cnn.config import CNNDropout

__all__ = ["CNN"]


class CNN(nn.Module):
    """3x3 convolutions in plain or residual blocks, then the mean over each map, dropout and one linear layer.

    Its sites are ``blocks.<i>.channel``, with a block size ``blocks.<i>.block``, in residual networks
    ``blocks.<i>.path``, and ``head``. They exist at rate 0 as well.

    Args:
        num_channels: Channels of the images, 1 or 3.
        num_outputs: Classes, or numbers to predict.
        widths: Channels of every block.
        strides: Stride of every block; by default 2 where a block is wider than the one before it, else 1.
        residual: Whether blocks are residual, with two convolutions each, or plain, with one.
        batch_norm: Whether there is a batch norm before every ReLU.
        image_size: Height and width of the images, needed with DropBlock only.
        dropout: Rates and places.

    Raises:
        ValueError: If the settings do not fit together.

    Example:
        >>> import torch
        >>> dropout = CNNDropout(path=0.2)
        >>> network = CNN(1, 10, widths=(16, 32, 32), residual=True, dropout=dropout)
        >>> network(torch.randn(5, 1, 28, 28)).shape
        torch.Size([5, 10])
        >>> [round(block.path.rate, 3) for block in network.blocks]
        [0.067, 0.133, 0.2]
    """

    def __init__(
        self,
        num_channels: int,
        num_outputs: int,
        *,
        widths: Sequence[int] = (32, 64, 128),
        strides: Sequence[int] | None = None,
        residual: bool = False,
        batch_norm: bool = True,
        image_size: tuple[int, int] | None = None,
        dropout: CNNDropout = CNNDropout(),  # noqa: B008
    ) -> None:
        super().__init__()
        check_sizes("CNN", num_channels=num_channels, num_outputs=num_outputs)
        check_widths("CNN", widths)
        check_dropout("CNN", dropout, CNNDropout)
        previous = [*widths[:1], *widths[:-1]]
        if strides is None:
            strides = [2 if width > before else 1 for width, before in zip(widths, previous, strict=True)]
        _check(widths, strides, residual, batch_norm, image_size, dropout)
        if not residual:
            previous = [num_channels, *widths[:-1]]
        path = linear(dropout.path, len(widths))
        self.stem = conv3x3(num_channels, widths[0], stride=1, bias=True) if residual else nn.Identity()
        self.blocks = nn.ModuleList()
        for depth, (num_in, width, stride) in enumerate(zip(previous, widths, strides, strict=True)):
            shape = (num_in, width)
            self.blocks.append(
                ResidualBlock(*shape, stride=stride, batch_norm=batch_norm, dropout=dropout, path=path(depth))
                if residual
                else PlainBlock(*shape, stride=stride, batch_norm=batch_norm, dropout=dropout)
            )
        self.exit = nn.Sequential(make_norm(widths[-1], batch_norm), nn.ReLU()) if residual else nn.Identity()
        self.head = Dropout(dropout.head)
        self.output = nn.Linear(widths[-1], num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(batch, num_channels, height, width)`` to ``(batch, num_outputs)``."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        outputs: Tensor = self.output(self.head(self.exit(x).mean(dim=(2, 3))))
        return outputs


def _check(
    widths: Sequence[int],
    strides: Sequence[int],
    residual: bool,
    batch_norm: bool,
    image_size: tuple[int, int] | None,
    dropout: CNNDropout,
) -> None:
    if not widths or len(strides) != len(widths) or min(strides) < 1:
        raise ValueError(
            f"CNN(widths={list(widths)}, strides={list(strides)}): give one width and one stride per block, from 1."
        )
    if dropout.path and not residual:
        raise ValueError(
            f"CNN(residual=False, dropout=CNNDropout(path={dropout.path})): plain blocks have no branch to drop. "
            "Set residual=True, or path=0."
        )
    if dropout.after == "norm" and not batch_norm:
        raise ValueError(
            "CNN(batch_norm=False, dropout=CNNDropout(after='norm')): there is no norm to drop after. "
            "Set batch_norm=True, or after='activation'."
        )
    if dropout.block_size is None:
        return
    if image_size is None:
        raise ValueError(
            f"CNN(image_size=None, dropout=CNNDropout(block_size={dropout.block_size})): whether the blocks fit "
            "depends on the images. Set image_size=(height, width)."
        )
    for index, stride in enumerate(accumulate(strides, mul)):
        height, width = (-(-side // stride) for side in image_size)
        if dropout.block_size > min(height, width):
            raise ValueError(
                f"CNN(image_size={tuple(image_size)}, dropout=CNNDropout(block_size={dropout.block_size})): the map of "
                f"blocks.{index} is {height}x{width}. Set a smaller block_size, or smaller strides."
            )
