"""Verify train() and eval() by what dropout does, not only by what the flags say."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from lightning_dropout_callbacks.eval_probe import EvalProbe
from lightning_dropout_callbacks.firing_probe import FiringProbe
from lightning_dropout_callbacks.lean import LeanCallback
from lightning_dropout_callbacks.mode_check import ModeCheck
from lightning_dropout_callbacks.rank_report import settle
from lightning_dropout_callbacks.run_page import RunPage
from lightning_dropout_callbacks.violations import DropoutModeError, Reaction, Violations, listed

__all__ = ["DropoutModeError", "ModeGuard"]

_NUM_FIRST = 2
_STAGES = {"sanity_check": "validation", "validate": "validation", "test": "test", "predict": "predict"}


class ModeGuard(LeanCallback):
    """Verify that dropout is on in training and off in evaluation.

    - At train start, after every validation and after an exception: no site with a rate above 0 is in eval mode
      (``from_pretrained`` of Hugging Face returns models in eval mode, and ``fit`` never calls ``train()``). Frozen
      parts of a model are exempt.
    - In the first training batches, and in the first batch of an epoch for sites that a schedule has turned on since:
      every site that runs drops something, and no layer is forgotten.
    - In the first batches of validation, test and predict, and again every ``every_n_batches``: no dropout is active,
      also none that no module owns, such as ``F.dropout(x)`` without ``training=``. Other randomness is no finding, nor
      is dropout that is meant, in ``MCDropout`` and ``mc_predict``.
    - After every validation, also one that failed: all modules are in the mode they were in before.
    - Once an epoch: all ranks agree on modes and rates. Once: their masks differ.

    Each batch runs once: a probed batch is observed, not repeated. Nothing is drawn, and nothing written but what
    ``"fix"`` has to. A compiled model gets no graph for it; where it draws random numbers in an evaluation batch, the
    next one runs in eager. Ranks tell each other what they found, so that all of them raise or none. With a
    ``WandbLogger``, findings are sent as alerts.

    Args:
        on_violation: ``"warn"``; ``"raise"`` a ``DropoutModeError``; or ``"fix"`` what a mode can fix, and say so.
            Active calls that ignore the mode cannot be fixed from outside: they are warned about.
        every_n_batches: How often a long evaluation is observed.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import torch.nn.functional as F
        >>> from lightning.pytorch.demos.boring_classes import BoringModel
        >>> class Leaky(BoringModel):
        ...     def forward(self, x):
        ...         return self.layer(F.dropout(x, 0.1))
        >>> trainer = Trainer(fast_dev_run=True, accelerator="cpu", callbacks=[ModeGuard("raise")])
        >>> trainer.fit(Leaky())
        Traceback (most recent call last):
            ...
        lightning_dropout_callbacks.violations.DropoutModeError: Dropout is active in ...
    """

    def __init__(self, on_violation: Reaction = "warn", *, every_n_batches: int = 100) -> None:
        if on_violation not in ("warn", "raise", "fix"):
            raise ValueError(f"ModeGuard(on_violation={on_violation!r}): on_violation is 'warn', 'raise' or 'fix'.")
        if every_n_batches < 1:
            raise ValueError(f"ModeGuard(every_n_batches={every_n_batches}): give 1 or more.")
        self.on_violation = on_violation
        self.every_n_batches = every_n_batches
        self._start_over()

    def _start_over(self) -> None:
        self._violations = Violations(self.on_violation)
        self._modes = ModeCheck(self._violations)
        self._firing = FiringProbe(self._violations)
        self._evaluation = EvalProbe(self.every_n_batches)
        self._page = RunPage("ModeGuard")
        self._num_batches = 0
        self._was_validating = False

    @property
    def findings(self) -> list[str]:
        """What was found, one message each, in the order of finding."""
        return [str(violation) for violation in self._violations.found]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Start counting anew for a fit."""
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            self._start_over()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for sites that would stay off in training."""
        self._check_training(trainer, pl_module, "at the start of training")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Look at the modes after a validation, and begin to observe a batch if it is one of the first."""
        if self._was_validating:
            self._check_training(trainer, pl_module, "after validation")
        if self._num_batches < _NUM_FIRST or (batch_idx == 0 and self._firing.has_unseen(pl_module)):
            self._firing.start_batch(pl_module)
        else:
            self.pass_over("on_train_batch_start")
            self.pass_over("on_train_batch_end")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Say what did not fire."""
        if not self._firing.is_looking:
            return
        self._firing.end_batch()
        self._num_batches += 1
        if self._num_batches >= _NUM_FIRST:
            self._firing.report()
        if self._num_batches == _NUM_FIRST:
            self._settle(trainer, pl_module, seed=self._firing.seed)
        else:
            self._react(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the next batch: there may be sites that have not been observed."""
        self._look_at_next_batch()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the modes after a validation, and compare the ranks."""
        self._firing.report()
        self._check_training(trainer, pl_module, "after validation" if self._was_validating else "after an epoch")

    def _look_at_next_batch(self) -> None:
        self.call_again("on_train_batch_start")
        self.call_again("on_train_batch_end")

    def _check_training(self, trainer: Trainer, pl_module: LightningModule, when: str) -> None:
        if self._was_validating:
            self._modes.check_return(pl_module, when)
            self._was_validating = False
        self._modes.check_training(pl_module, when)
        self._settle(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for sites that are left in train mode."""
        self._was_validating = True
        self._look_at_next_batch()
        loop: Any = trainer.predict_loop if trainer.predicting else trainer._evaluation_loop
        self._modes.remember(pl_module, loop._module_mode.mode)  # they have changed by now
        self._modes.check_evaluation(pl_module, _stage(trainer))
        self._react(trainer)

    on_test_start = on_predict_start = on_validation_start

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Begin to observe the batch if it is one of the first, or every so many."""
        self._evaluation.start_batch(pl_module, batch_idx, only_batch=_num_batches(trainer) == 1)

    on_test_batch_start = on_predict_batch_start = on_validation_batch_start

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Name the dropout that was active in the batch."""
        events = [event for event in self._evaluation.end_batch(pl_module) if event.module not in self._modes.loud]
        if events:
            advice = "Pass training=self.training, or the rate only in training."
            self._violations.add(f"Dropout is active in {_stage(trainer)}", listed(events), advice)
            self._react(trainer)

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Say what is wrong now, or fix it: Lightning leaves a model in eval mode when validation fails."""
        self._firing.close()
        self._evaluation.close()
        if isinstance(exception, DropoutModeError):
            if self._was_validating:
                self._modes.restore()
            return
        if self._was_validating:
            self._modes.check_return(pl_module, "after an exception")
        if trainer.state.fn == "fit":
            self._modes.check_training(pl_module, "after an exception")
        num_known = len(self._violations.found)
        self._violations.tell()
        self._alert(trainer, num_known)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sum up in one line."""
        num_batches, num_ranks = self._firing.num_batches + self._evaluation.num_batches, trainer.world_size
        rank_zero_info(
            f"ModeGuard checked modes {self._modes.num_checks} times, and dropout in {num_batches} batches, "
            f"on {num_ranks} rank{'s' if num_ranks > 1 else ''}: {self._violations}."
        )

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Look at the modes after an evaluation of its own."""
        if stage != "fit" and self._was_validating:
            self._was_validating = False
            self._modes.check_return(pl_module, f"after {stage}")
            self._settle(trainer, pl_module)

    def _react(self, trainer: Trainer) -> None:
        """React at once where there is no other rank to agree with; several do so together, when they settle."""
        if trainer.world_size == 1 and self._violations.pending:
            self._settle(trainer, trainer.lightning_module)

    def _settle(self, trainer: Trainer, pl_module: LightningModule, seed: int | None = None) -> None:
        num_known = len(self._violations.found)
        try:
            settle(self._violations, trainer, pl_module, seed)
        finally:
            self._alert(trainer, num_known)

    def _alert(self, trainer: Trainer, num_known: int) -> None:
        if news := self.findings[num_known:]:
            self._page.alert(trainer, "Dropout is not in the right mode", "\n".join(news))


def _stage(trainer: Trainer) -> str:
    assert trainer.state.stage is not None
    return _STAGES[trainer.state.stage.value]


def _num_batches(trainer: Trainer) -> float:
    """How many batches the evaluation that runs has, over all its loaders."""
    if trainer.sanity_checking:
        return sum(trainer.num_sanity_val_batches)
    sizes = {"test": trainer.num_test_batches, "predict": trainer.num_predict_batches}
    return sum(sizes.get(_stage(trainer), trainer.num_val_batches))
