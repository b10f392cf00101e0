"""How far a fit is, as a number in [0, 1]."""

from __future__ import annotations

import math

from lightning.pytorch import Trainer

__all__ = ["FitProgress"]


class FitProgress:
    """The share of a fit that is done: a pure function of the trainer's own counters, so resuming continues it.

    With automatic optimization it counts optimizer steps, so the batches of one accumulation window have the same
    progress. With manual optimization it counts batches, whatever number of optimizers step in each.

    Args:
        trainer: A trainer at the start of fit.
        total_steps: Length of the run in these steps; by default what ``max_epochs`` and ``max_steps`` say.
        needed_by: Who asks, for the message.

    Raises:
        ValueError: If the run has no known end.
    """

    def __init__(self, trainer: Trainer, *, total_steps: int | None, needed_by: str) -> None:
        self._manual = not trainer.lightning_module.automatic_optimization
        self._max_steps = trainer.max_steps if self._manual and total_steps is None else -1
        self._total: float = total_steps or self._limit(trainer)
        if self._max_steps <= 0 and not 0 < self._total < math.inf:
            raise ValueError(
                f"{needed_by} cannot tell how long this fit is (max_epochs={trainer.max_epochs}, "
                f"max_steps={trainer.max_steps}, {trainer.num_training_batches} batches an epoch). Pass total_steps=."
            )

    def _limit(self, trainer: Trainer) -> float:
        if self._manual:
            # max_steps counts the steps of all optimizers here, so it says nothing about batches.
            trainer.fit_loop.setup_data()
            epochs = math.inf if trainer.max_epochs in (None, -1) else max(trainer.max_epochs or 0, 1)
            return epochs * trainer.num_training_batches
        return trainer.estimated_stepping_batches

    def now(self, trainer: Trainer) -> float:
        """Progress of the batch that is about to be trained on, in [0, 1]."""
        done = trainer.fit_loop.total_batch_idx if self._manual else trainer.global_step
        progress = done / self._total
        if self._max_steps > 0:
            progress = max(progress, trainer.global_step / self._max_steps)
        return min(max(progress, 0.0), 1.0)
