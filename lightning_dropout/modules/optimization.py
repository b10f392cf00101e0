"""Which parameters are decayed, and how the learning rate moves: plain functions that all modules share."""

from __future__ import annotations

import math
from typing import Any

from lightning.pytorch import Trainer
from torch import nn

__all__ = ["decay_groups", "total_steps", "warmup_cosine", "warmup_steps"]


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups for AdamW: matrices, kernels and embedding tables are decayed; biases, norms, scalars are not.

    The rule is the number of dimensions, as in nanoGPT. A tied parameter stands in one group once; frozen
    parameters stand in none.

    Example:
        >>> groups = decay_groups(nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8)), weight_decay=0.1)
        >>> [(group["weight_decay"], len(group["params"])) for group in groups]
        [(0.1, 1), (0.0, 3)]
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.dim() >= 2], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.dim() < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def total_steps(trainer: Trainer) -> int:
    """Number of optimizer steps that ``trainer`` is going to make.

    Raises:
        ValueError: If the run has no end that is known beforehand.
    """
    steps = trainer.estimated_stepping_batches
    if math.isinf(steps) or steps < 0:
        raise ValueError(
            f"The learning rate follows the whole run, but Trainer(max_epochs={trainer.max_epochs}, "
            f"max_steps={trainer.max_steps}) has no known end. Set max_steps= to a number of optimizer steps."
        )
    return int(steps)


def warmup_steps(warmup: float, total: int) -> int:
    """``warmup`` in steps: below 1 it is a share of ``total``, from 1 on a number of steps.

    Example:
        >>> warmup_steps(0.05, 2000), warmup_steps(100, 2000)
        (100, 100)
    """
    return round(warmup * total if warmup < 1 else warmup)


def warmup_cosine(step: int, *, warmup: int, total: int, floor: float) -> float:
    """Factor of the peak learning rate at ``step``: a line up over ``warmup`` steps, half a cosine down to ``floor``.

    Example:
        >>> [round(warmup_cosine(step, warmup=3, total=11, floor=0.1), 3) for step in (0, 3, 7, 11, 20)]
        [0.25, 1.0, 0.55, 0.1, 0.1]
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = min((step - warmup) / max(total - warmup, 1), 1.0)
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))
