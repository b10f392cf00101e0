"""How far a fit is, as a number in [0, 1]."""

from __future__ import annotations

import math

from lightning.pytorch import Trainer

__all__ = ["FitProgress", "check_length"]

_NUM_PIECES = 4096


def check_length(total_steps: int | None, total_epochs: int | None, *, needed_by: str) -> None:
    """Raise a ValueError if the length of a fit is given twice, or is no length."""
    for name, total in (("total_steps", total_steps), ("total_epochs", total_epochs)):
        if total is not None and (not isinstance(total, int) or total < 1):
            raise ValueError(f"{needed_by}({name}={total!r}): give a whole number from 1 on.")
    if total_steps is not None and total_epochs is not None:
        raise ValueError(f"{needed_by}(total_steps={total_steps}, total_epochs={total_epochs}): give one of them.")


class FitProgress:
    """The share of a fit that is done: a pure function of the trainer's own counters, so resuming continues it.

    A fit of many steps is divided into 4,096 pieces or more, and progress is that at the beginning of a piece: so what
    follows it has to move only now and then, by less than anybody could see.

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
        loop = trainer.fit_loop.epoch_loop
        optimizer_steps = loop.automatic_optimization.optim_progress.optimizer.step
        #: Its ``completed`` is the number of steps done.
        self.counter = loop.batch_progress.total if self._manual else optimizer_steps.total
        self._logged = -1
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
        in_steps = not self._in_epochs and self._total < math.inf
        self._stride = max(int(self._total) // _NUM_PIECES, 1) if in_steps else 1

    def now(self, trainer: Trainer, *, ago: int = 0) -> float:
        """Progress of the batch that is about to be trained on, or of one before; in [0, 1]."""
        done = trainer.current_epoch if self._in_epochs else self.counter.completed
        done = max(done - ago, 0)
        progress = (done - done % self._stride) / self._total
        if self._max_steps > 0:
            progress = max(progress, trainer.global_step / self._max_steps)
        return min(progress, 1.0)

    def logged_step(self, trainer: Trainer) -> int | None:
        """The number of the step that is about to begin if the trainer logs it, once in an accumulation window."""
        step = self.counter.completed
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every <= 0 or (step + 1) % every or step == self._logged:
            return None
        self._logged = step
        return step

    def quiet_until(self, trainer: Trainer, *, level: float = 0.0) -> float:
        """The step up to which ``counter`` may count before one is logged or progress changes and is above ``level``.

        It may be too early; it is 0 where that cannot be told.
        """
        if self._in_epochs or self._max_steps > 0:
            return 0
        step = self.counter.completed
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        next_logged = step + every - (step + 1) % every if every > 0 else math.inf
        piece = step - step % self._stride
        next_change = piece + self._stride if piece < self._total else math.inf  # at its end progress stays
        return min(next_logged, max(next_change, level * self._total))


def _steps_per_epoch(trainer: Trainer) -> float:
    trainer.fit_loop.setup_data()
    batches = trainer.num_training_batches
    return batches if batches == math.inf else math.ceil(batches / trainer.accumulate_grad_batches)
