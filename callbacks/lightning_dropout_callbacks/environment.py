"""Attach the default callbacks to every trainer of a script, without touching its code."""

from __future__ import annotations

import os

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from lightning_dropout_callbacks.defaults import default_callbacks

__all__ = ["callbacks_from_environment"]

VARIABLE = "LIGHTNING_DROPOUT"


def callbacks_from_environment() -> list[Callback]:
    """What Lightning adds to every trainer: nothing, unless the environment has ``LIGHTNING_DROPOUT=1``.

    Then the trainer gets ``default_callbacks()``, less those of which it has one already.

    Raises:
        ValueError: If the variable is neither 0 nor 1.

    Example:
        >>> callbacks_from_environment()
        []
    """
    value = os.environ.get(VARIABLE, "0")
    if value not in ("", "0", "1"):
        raise ValueError(f"{VARIABLE}={value} in the environment: 1 attaches the default callbacks, 0 does not.")
    return [_AttachDefaults()] if value == "1" else []


class _AttachDefaults(Callback):
    """Attaches the default callbacks once it is known which of them the user attached by hand, on trainer or module."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Put the missing ones where the user's own would be: before those that save checkpoints."""
        present: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        missing = [each for each in default_callbacks() if not any(isinstance(other, type(each)) for other in present)]
        if not missing:
            return
        saving = trainer.checkpoint_callbacks
        others = [each for each in present if each not in saving]
        trainer.callbacks = [*others, *missing, *saving]  # type: ignore[attr-defined]
        for callback in missing:
            callback.setup(trainer, pl_module, stage)
        rank_zero_info(f"{VARIABLE}=1 attached {', '.join(type(each).__name__ for each in missing)}.")
