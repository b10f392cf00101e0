"""How far a fit is, as a number in [0, 1]."""

from __future__ import annotations

import math

from lightning.pytorch import Trainer

__all__ = ["FitProgress", "check_length"]


def check_length(total_steps: int | None, total_epochs: int | None, *, needed_by: str) -> None:
    """Raise a ValueError if the length of a fit is given twice, or is no length."""
    for name, total in (("total_steps", total_steps), ("total_epochs", total_epochs)):
        if total is not None and total < 1:
            raise ValueError(f"{needed_by}({name}={total}): give 1 or more.")
    if total_steps is not None and total_epochs is not None:
        raise ValueError(f"{needed_by}(total_steps={total_steps}, total_epochs={total_epochs}): give one of them.")


class FitProgress:
    """The share of a fit that is done: a pure function of the trainer's own counters, so resuming continues it.

    With automatic optimization it counts optimizer steps, so the batches of one accumulation window have the same
    progress. With manual optimization it counts batches, whatever number of optimizers step in each.

    Args:
        trainer: A trainer at the start of training. Not earlier: to count its steps it makes the loaders, and those
            that are made before the checkpoint is read do not get their state from it.
        total_steps: Where progress reaches 1, in these steps.
        total_epochs: Where progress reaches 1, in epochs. By default it is where ``max_epochs`` or ``max_steps`` ends
            the fit.
        needed_by: Who asks, for the message.

    Raises:
        ValueError: If the run has no known end.
    """

    def __init__(
        self, trainer: Trainer, *, total_steps: int | None = None, total_epochs: int | None = None, needed_by: str
    ) -> None:
        self._manual = not trainer.lightning_module.automatic_optimization
        # What trainer.global_step and should_update_logs look for through many objects: too many for every step.
        self._loop = trainer.fit_loop.epoch_loop
        optimizer_steps = self._loop.automatic_optimization.optim_progress.optimizer.step
        self._counter = self._loop.batch_progress.total if self._manual else optimizer_steps.total
        self._max_steps = -1
        self._in_epochs = False
        self._total: float
        if total_steps is not None:
            self._total = total_steps
        elif total_epochs is not None:
            steps = _steps_per_epoch(trainer)
            self._in_epochs = steps == math.inf
            self._total = total_epochs * (1 if self._in_epochs else steps)
        elif self._manual:
            # max_steps counts the steps of all optimizers here, so it says nothing about batches.
            endless = trainer.max_epochs in (None, -1)
            self._total = math.inf if endless else max(trainer.max_epochs or 0, 1) * _steps_per_epoch(trainer)
            self._max_steps = trainer.max_steps
        else:
            self._total = trainer.estimated_stepping_batches
        if self._max_steps <= 0 and not 0 < self._total < math.inf:
            raise ValueError(
                f"{needed_by} cannot tell how long this fit is (max_epochs={trainer.max_epochs}, "
                f"max_steps={trainer.max_steps}, {trainer.num_training_batches} batches an epoch). "
                "Pass total_steps= or total_epochs=."
            )

    def now(self, trainer: Trainer) -> float:
        """Progress of the batch that is about to be trained on, in [0, 1]."""
        return self._after(self._num_done(trainer), trainer)

    def before(self, trainer: Trainer) -> float:
        """Progress of the last batch that was trained on, 0 if there was none."""
        return self._after(max(self._num_done(trainer) - 1, 0), trainer)

    def is_logged(self, trainer: Trainer) -> bool:
        """Whether what is logged in the batch that is about to be trained on reaches the loggers."""
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        return every > 0 and ((self._loop._batches_that_stepped + 1) % every == 0 or trainer.should_stop)

    def _num_done(self, trainer: Trainer) -> int:
        if self._in_epochs:
            return trainer.current_epoch
        return self._counter.completed

    def _after(self, done: int, trainer: Trainer) -> float:
        progress = done / self._total
        if self._max_steps > 0:
            progress = max(progress, trainer.global_step / self._max_steps)
        return min(progress, 1.0)


def _steps_per_epoch(trainer: Trainer) -> float:
    trainer.fit_loop.setup_data()
    batches = trainer.num_training_batches
    return batches if batches == math.inf else math.ceil(batches / trainer.accumulate_grad_batches)
