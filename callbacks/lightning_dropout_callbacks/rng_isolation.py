"""Random numbers of one's own, between those of others."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from lightning.pytorch.utilities.seed import isolate_rng

__all__ = ["isolated_rng", "seed_everything"]


@contextmanager
def isolated_rng(seed: int) -> Iterator[None]:
    """Inside a ``with`` block the global random numbers follow from ``seed``; afterwards they go on where they were."""
    isolation = isolate_rng()
    isolation.__enter__()
    mps_state = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        seed_everything(seed)
        yield
    finally:
        isolation.__exit__(None, None, None)  # as if nothing was raised, or it would restore nothing
        if mps_state is not None:
            torch.mps.set_rng_state(mps_state)


def seed_everything(seed: int) -> None:
    """Seed what code draws from that brings no generator of its own."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
