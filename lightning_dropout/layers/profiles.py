"""Depth profiles: the base rate of a site as a function of how deep it lies.

``depth`` counts blocks from 0, so the last of ``num_layers`` blocks has depth ``num_layers - 1`` and the full rate. A
scheduler that scales base rates keeps the profile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from lightning_dropout.layers.rate import check_rate

__all__ = ["Profile", "exponential", "linear", "uniform"]

Profile: TypeAlias = Callable[[int], float]


def uniform(rate: float, num_layers: int) -> Profile:
    """The same rate at every depth.

    Example:
        >>> [uniform(0.2, 4)(depth) for depth in range(4)]
        [0.2, 0.2, 0.2, 0.2]
    """
    return _profile(rate, num_layers, lambda share: 1.0)


def linear(rate: float, num_layers: int) -> Profile:
    """Block ``l`` of ``L``, counted from 1, gets ``l / L * rate`` (stochastic depth, Huang et al. 2016).

    Example:
        >>> [linear(0.2, 4)(depth) for depth in range(4)]
        [0.05, 0.1, 0.15000000000000002, 0.2]
    """
    return _profile(rate, num_layers, lambda share: share)


def exponential(rate: float, num_layers: int, *, gamma: float = 0.1) -> Profile:
    """The rate grows by the same factor from block to block, by ``1 / gamma`` over the whole depth.

    Example:
        >>> [round(exponential(0.2, 4, gamma=0.0625)(depth), 6) for depth in range(4)]
        [0.025, 0.05, 0.1, 0.2]
    """
    if not 0.0 < gamma <= 1.0:
        raise ValueError(
            f"exponential(gamma={gamma}) has to lie in (0, 1]: the share of the rate before the first block."
        )
    return _profile(rate, num_layers, lambda share: gamma ** (1.0 - share))


def _profile(rate: float, num_layers: int, shape: Callable[[float], float]) -> Profile:
    rate = check_rate(rate)
    if num_layers < 1:
        raise ValueError(f"A depth profile over num_layers={num_layers} is empty. Give the number of blocks.")

    def profile(depth: int) -> float:
        if not 0 <= depth < num_layers:
            raise ValueError(f"depth is {depth}, but the profile was made for 0 to {num_layers - 1}.")
        return rate * shape((depth + 1) / num_layers)

    return profile
