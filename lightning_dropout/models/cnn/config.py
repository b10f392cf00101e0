"""What a CNN drops, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lightning_dropout.layers.rate import check_rate

__all__ = ["CNNDropout"]


@dataclass(frozen=True)
class CNNDropout:
    """The dropout of a CNN.

    Single pixels of a feature map say what their neighbours say, so that dropping them drops little: convolutions lose
    whole channels (Tompson et al. 2015) or blocks (Ghiasi et al. 2018, who drop 10%, with blocks of 7), sparingly. The
    head loses half of its units, as the fully connected layers of AlexNet do (Krizhevsky et al. 2012).

    Args:
        channel: Rate at which channels are dropped after the activation of each block.
        block: Rate at which blocks of the map are dropped, at the same place; above 0 it needs ``block_size``.
        block_size: Side of the blocks. Without it there is no DropBlock to schedule.
        path: Rate at which the residual branch of the last block is dropped. It grows linearly with depth, l/L of it in
            block l of L (stochastic depth, Huang et al. 2016, who use .5).
        head: Rate on the pooled features.
        after: Where ``channel`` and ``block`` stand. Right after a batch norm they shift the variance that the next
            one expects (Li et al. 2019): ``"norm"`` is there to see that happen.

    Raises:
        ValueError: If a rate is outside [0, 1], or if ``block`` has no ``block_size``.
    """

    channel: float = 0.1
    block: float = 0.0
    block_size: int | None = None
    path: float = 0.0
    head: float = 0.5
    after: Literal["activation", "norm"] = "activation"

    def __post_init__(self) -> None:
        for name in ("channel", "block", "path", "head"):
            check_rate(getattr(self, name), what=f"CNNDropout {name}")
        if self.block and self.block_size is None:
            raise ValueError(f"CNNDropout(block={self.block}, block_size=None): blocks need a size. Set block_size=.")
        if self.after not in ("activation", "norm"):
            raise ValueError(f"CNNDropout(after={self.after!r}) is unknown. Give 'activation' or 'norm'.")
