"""Schedule dropout rates over training."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import nn

from lightning_dropout.schedules import Constant, ScheduleLike, as_schedule
from lightning_dropout.sites import Sites
from lightning_dropout_callbacks.lean import LeanCallback
from lightning_dropout_callbacks.progress import FitProgress, check_length
from lightning_dropout_callbacks.site_driver import How, SiteDriver, as_globs, select_sites

__all__ = ["DropoutScheduler"]

_NUM_CHECKED = 101


class DropoutScheduler(LeanCallback):
    """Set dropout rates from a schedule before every training batch.

    The rate depends only on training progress, so a resumed run follows the same curve and the checkpoint carries
    nothing that could go stale. In a fit of more than 8,191 steps it moves every few of them, at least 4,096 times.
    Models made of this package's layers keep their one compiled graph. Sites get their base rates back after fit and
    after an exception. Attach several for several groups of sites.

    Logs ``dropout/<group>`` for every group of sites in repeated blocks, at the steps at which the trainer logs: to the
    loggers and in ``trainer.callback_metrics``. It is the mean, with ``/min`` and ``/max`` beside it where the rates of
    the group differ, also where several callbacks drive parts of it.

    Args:
        schedule: Maps progress in [0, 1] to a rate, or to a factor with ``how="scale"``. A number is a constant.
        sites: Glob, or several, on site names. By default the element-like sites that the model's author turned on:
            kinds element, channel, attention, context, embedding and recurrent with a base rate above 0.
        how: ``"set"`` gives every selected site the schedule's rate; ``"scale"`` multiplies each site's own base
            rate, which keeps a per-layer profile. A factor above 1 takes a plain function, as the schedules end at 1.
        total_steps: Where progress reaches 1, in optimizer steps; the rate stays there afterwards. By default it is
            the end of the fit. Needed where the trainer has no end of its own.
        total_epochs: The same in epochs.

    Raises:
        ValueError: Here, if an argument is out of range. At fit start, if ``sites`` matches nothing, another callback
            drives a matched site, the schedule leaves [0, 1], or the length of the run is unknown.

    Example:
        >>> from lightning_dropout.schedules import Early
        >>> DropoutScheduler(Early(rate=0.2, until=0.5)).rate_at(0.25)
        0.1
    """

    def __init__(
        self,
        schedule: ScheduleLike,
        sites: str | Sequence[str] | None = None,
        how: How = "set",
        *,
        total_steps: int | None = None,
        total_epochs: int | None = None,
    ) -> None:
        if how not in ("set", "scale"):
            raise ValueError(f"DropoutScheduler(how={how!r}): how is 'set' or 'scale'.")
        check_length(total_steps, total_epochs, needed_by="DropoutScheduler")
        self.how: How = how
        self.schedule = as_schedule(schedule, bound=float("inf") if how == "scale" else 1.0)
        self.sites = as_globs(sites)
        self.total_steps = total_steps
        self.total_epochs = total_epochs
        self._driver: SiteDriver | None = None

    @cached_property
    def state_key(self) -> str:
        """Tells several schedulers of one trainer apart by the sites they drive."""
        return self._generate_state_key(sites=self.sites)

    def rate_at(self, progress: float) -> float:
        """The schedule's value at ``progress`` in [0, 1]: a rate, or a factor with ``how="scale"``."""
        return self.schedule(progress)

    def select(self, model: nn.Module) -> Sites:
        """The sites of ``model`` that this scheduler drives.

        Raises:
            ValueError: If there is none.
        """
        return select_sites(model, self.sites, needed_by="DropoutScheduler")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Claim the sites and check the whole schedule, before anything is trained."""
        self._release()
        sites = self.select(pl_module)
        values = [self.rate_at(i / (_NUM_CHECKED - 1)) for i in range(_NUM_CHECKED)]
        if self.how == "scale":
            sites.check_factor(max(values))
        self._driver = SiteDriver(self, trainer, sites, model=pl_module, how=self.how, globs=self.sites)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Learn how long the fit is; set the rates of the last batch, as a resumed run may begin with a validation."""
        assert self._driver is not None
        # A constant is the same however long the fit is, so that the fit may be endless.
        total_steps = 1 if isinstance(self.schedule, Constant) else self.total_steps
        total_epochs = None if isinstance(self.schedule, Constant) else self.total_epochs
        self._progress = FitProgress(trainer, total_steps=total_steps, total_epochs=total_epochs, needed_by=str(self))
        self._driver.write(self.rate_at(self._progress.now(trainer, ago=1)))
        self._quiet_until: float = 0  # no new rate and nothing to log before this step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Set the rates of this batch, if they are new; log them."""
        if self._driver is None:
            raise RuntimeError(f"{self} was added to a trainer that trains already. Add it before trainer.fit().")
        if self._progress.counter.completed < self._quiet_until:
            return
        self._driver.step(trainer, pl_module, self.rate_at(self._progress.now(trainer)), self._progress)
        self._quiet_until = self._progress.quiet_until(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the base rates."""
        self._release()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the base rates."""
        self._release()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note what the schedule was, to tell when a resumed run has another; its rates are computed, never saved."""
        checkpoint.setdefault("dropout_schedules", {})[self.state_key] = self._description()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Say in one line if the checkpoint was written under another schedule."""
        before = checkpoint.get("dropout_schedules", {}).get(self.state_key)
        if before not in (None, self._description()):
            rank_zero_info(f"{self} continues a run of {before}: from here on the rates follow the new schedule.")

    def _description(self) -> str:
        schedule = re.sub(r" at 0x[0-9a-f]+", "", repr(self.schedule))  # of an object: the address says nothing
        return f"{schedule}, how={self.how!r}"

    def __str__(self) -> str:
        sites = "" if self.sites is None else f", sites={list(self.sites)}"
        return f"DropoutScheduler({self.schedule!r}{sites}, how={self.how!r})"

    def _release(self) -> None:
        if self._driver is not None:
            self._driver.release()
            self._driver = None
