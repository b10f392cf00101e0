"""Dropout that follows the gap between training and validation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from lightning_dropout.metrics import FitJudge
from lightning_dropout.sites import Sites
from lightning_dropout_callbacks.lean import LeanCallback
from lightning_dropout_callbacks.overfitting_monitor import OverfittingMonitor
from lightning_dropout_callbacks.progress import FitProgress, check_length
from lightning_dropout_callbacks.rate_controller import RateController
from lightning_dropout_callbacks.site_driver import How, SiteDriver, as_globs, select_sites

__all__ = ["AdaptiveDropout"]


class AdaptiveDropout(LeanCallback):
    """Raise the dropout rate while the model memorises, lower it while dropout holds it back, and hold it otherwise.

    Decides after every validation from what ``OverfittingMonitor`` measured, so the trainer needs one. The rate rises
    if the gap is above ``target`` and the validation loss rises while the training loss does not. It falls if both
    rise, or if the gap is below and the validation loss still improves. Whether it decides every epoch or ten times an
    epoch makes little difference: speeds are measured in training progress, and decay over the fit. In the last tenth
    of the fit the rate goes down to its lower bound, which pays off if the learning rate decays as well.

    It cannot undo: a model that has memorised does not forget, and steps at too high a rate are lost. So start from a
    rate that you would have chosen.

    All ranks take the decision of the first. The rate and what led to it are saved in the checkpoint; a resumed run
    goes on from there. Sites get their base rates back after fit and after an exception. Attach several for several
    groups of sites. Logs ``dropout/<group>`` as ``DropoutScheduler`` does, and says in a line when and why it turns.

    Args:
        sites: Glob, or several, on site names. By default the element-like sites that the model's author turned on:
            kinds element, channel, attention, context, embedding and recurrent with a base rate above 0.
        how: ``"set"`` gives every selected site the same rate; ``"scale"`` keeps the ratios of their base rates, and
            the rate is their mean.
        target: Gap that the model may have, as a share of the validation loss.
        bounds: Lowest and highest rate.
        start: Rate at the start of the fit; by default the mean of the base rates.
        metric: Loss to judge by: ``overfit/train_<metric>`` against ``overfit/val_<metric>``. It has to be above 0.
        cooldown: Share of the fit over which the rate goes down at its end; 0 for none.
        total_steps: Length of the fit in optimizer steps, where the trainer has no end of its own.
        total_epochs: The same in epochs.

    Raises:
        ValueError: Here, if an argument is out of range. At fit start, if ``sites`` matches nothing, another callback
            drives a matched site, the start is out of bounds, the length of the fit is unknown, or there is no
            ``OverfittingMonitor``. After a validation, if the monitor could not measure the metric.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> callbacks = [OverfittingMonitor(), AdaptiveDropout(bounds=(0.05, 0.6))]
        >>> trainer = Trainer(callbacks=callbacks, logger=False, enable_checkpointing=False)
    """

    def __init__(
        self,
        sites: str | Sequence[str] | None = None,
        how: How = "set",
        *,
        target: float = 0.25,
        bounds: tuple[float, float] = (0.0, 0.9),
        start: float | None = None,
        metric: str = "loss",
        cooldown: float = 0.1,
        total_steps: int | None = None,
        total_epochs: int | None = None,
    ) -> None:
        if how not in ("set", "scale"):
            raise ValueError(f"AdaptiveDropout(how={how!r}): how is 'set' or 'scale'.")
        check_length(total_steps, total_epochs, needed_by="AdaptiveDropout")
        self.sites = as_globs(sites)
        self.how: How = how
        self.target = target
        self.bounds = bounds[0], bounds[1]
        self.start = start
        self.metric = metric
        self.cooldown = cooldown
        self.total_steps = total_steps
        self.total_epochs = total_epochs
        #: Why the rate is what it is, in words.
        self.reason = "holds: nothing was measured yet"
        self._new_controller(self.bounds[0] if start is None else start)  # checks the arguments
        self._controller: RateController | None = None
        self._restored: dict[str, Any] | None = None
        self._driver: SiteDriver | None = None

    @cached_property
    def state_key(self) -> str:
        """Tells several callbacks of one trainer apart by the sites they drive."""
        return self._generate_state_key(sites=self.sites)

    @property
    def rate(self) -> float | None:
        """The rate decided on last, without the cool-down; None before the first fit."""
        return None if self._controller is None else self._controller.rate

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Claim the sites, and go on where a checkpoint left off."""
        self._release()
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        if not any(isinstance(callback, OverfittingMonitor) for callback in callbacks):
            raise ValueError(f"{self} needs to know the gap. Add OverfittingMonitor() to the trainer's callbacks.")
        sites = select_sites(pl_module, self.sites, needed_by="AdaptiveDropout")
        self._mean_base_rate = sum(sites.base_rates().values()) / len(sites)
        self._check_scale(sites)
        self._controller = self._new_controller(self._mean_base_rate if self.start is None else self.start)
        if self._restored:
            self._controller.load_state_dict(self._restored)
        self._driver = SiteDriver(self, trainer, sites, model=pl_module, how=self.how, globs=self.sites)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Learn how long the fit is; set the rates of the last batch, as a resumed run may begin with a validation."""
        assert self._driver is not None
        self._progress = FitProgress(
            trainer, total_steps=self.total_steps, total_epochs=self.total_epochs, needed_by=str(self)
        )
        self._driver.write(self._value_at(self._progress.now(trainer, ago=1)))
        self._quiet_until: float = 0  # no new rate and nothing to log before this step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Set the rates of this batch, if they may have changed; log them."""
        if self._driver is None:
            raise RuntimeError(f"{self} was added to a trainer that trains already. Add it before trainer.fit().")
        if self._progress.counter.completed < self._quiet_until:
            return
        self._driver.step(trainer, pl_module, self._value_at(self._progress.now(trainer)), self._progress)
        self._quiet_until = self._progress.quiet_until(trainer, level=1.0 - self.cooldown)

    def _value_at(self, progress: float) -> float:
        assert self._controller is not None
        rate = self._controller.rate_at(progress)
        return rate if self.how == "set" else rate / self._mean_base_rate

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decide on the rate until the next validation."""
        controller = self._controller
        if trainer.sanity_checking or self._driver is None or controller is None:
            return
        self._quiet_until = 0
        train, val = trainer.strategy.broadcast(self._measured(trainer))
        before = controller.action
        self.reason = controller.decide(train=train, val=val, progress=self._progress.now(trainer))
        if before != controller.action:
            rank_zero_info(f"{self}: from step {trainer.global_step} on, rate {controller.rate:.2f} {self.reason}.")

    def _measured(self, trainer: Trainer) -> tuple[float, float]:
        names = [f"overfit/{split}_{self.metric}" for split in ("train", "val")]
        try:
            train, val = (float(trainer.callback_metrics[name]) for name in names)
        except KeyError:
            found = ", ".join(name for name in trainer.callback_metrics if name.startswith("overfit/"))
            raise ValueError(
                f"{self} needs {' and '.join(names)}, which OverfittingMonitor logs for a module that logs "
                f"val_{self.metric} (found: {found or 'nothing of it'}). Log it in validation_step, or change metric=."
            ) from None
        return train, val

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the base rates."""
        self._release()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the base rates."""
        self._release()
        self._restored = None

    def state_dict(self) -> dict[str, Any]:
        """The rate and the state of the controller, in plain types; nothing before the first fit."""
        return {} if self._controller is None else self._controller.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go back to a state: at the start of a fit, or within one, where a tuner tried something out."""
        self._restored = state_dict
        if self._driver is not None and self._controller is not None and state_dict:
            self._controller.load_state_dict(state_dict)
            self._quiet_until = 0

    def __str__(self) -> str:
        sites = "" if self.sites is None else f"sites={list(self.sites)}, "
        return f"AdaptiveDropout({sites}how={self.how!r})"

    def _new_controller(self, rate: float) -> RateController:
        try:
            return RateController(rate, bounds=self.bounds, judge=FitJudge(target=self.target), cooldown=self.cooldown)
        except ValueError as error:
            raise ValueError(f"{self}: {error}") from None

    def _check_scale(self, sites: Sites) -> None:
        if self.how != "scale":
            return
        largest = max(sites.base_rates().values())
        if largest == 0.0:
            raise ValueError(f"{self}: all base rates are 0, and 0 scales to nothing. Use how='set'.")
        if self.bounds[1] * largest > self._mean_base_rate:
            raise ValueError(
                f"{self}: at a mean rate of {self.bounds[1]:g}, the highest rate would be "
                f"{self.bounds[1] * largest / self._mean_base_rate:g}. Lower the upper one of bounds={self.bounds}."
            )

    def _release(self) -> None:
        if self._driver is not None:
            self._driver.release()
            self._driver = None
