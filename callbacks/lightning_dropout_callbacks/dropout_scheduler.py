"""Schedule dropout rates over training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import nn

from lightning_dropout.schedules import ScheduleLike, as_schedule
from lightning_dropout.sites import Sites, SiteWriter, find_sites
from lightning_dropout_callbacks.progress import FitProgress

__all__ = ["DropoutScheduler"]

DEFAULT_KINDS = ("element", "channel", "attention", "context", "embedding", "recurrent")
_NUM_CHECKED = 101


class DropoutScheduler(Callback):
    """Set dropout rates from a schedule before every training batch.

    The rate depends only on training progress, so a resumed run follows the same curve and the checkpoint carries
    nothing that could go stale. Models made of this package's layers keep their one compiled graph. Sites get their
    base rates back after fit and after an exception. Attach several for several groups of sites.

    Logs ``dropout/<group>`` for every group of sites in repeated blocks, with ``/min`` and ``/max`` where the rates of
    a group differ, at the trainer's logging steps.

    Args:
        schedule: Maps progress in [0, 1] to a rate, or to a factor with ``how="scale"``. A number is a constant.
        sites: Glob, or several, on site names. By default the element-like sites that the model's author turned on:
            kinds element, channel, attention, context, embedding and recurrent with a base rate above 0.
        how: ``"set"`` gives every selected site the schedule's rate; ``"scale"`` multiplies each site's own base
            rate, which keeps a per-layer profile.
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
        how: Literal["set", "scale"] = "set",
        *,
        total_steps: int | None = None,
        total_epochs: int | None = None,
    ) -> None:
        if how not in ("set", "scale"):
            raise ValueError(f"DropoutScheduler(how={how!r}): how is 'set' or 'scale'.")
        for name, total in (("total_steps", total_steps), ("total_epochs", total_epochs)):
            if total is not None and total < 1:
                raise ValueError(f"DropoutScheduler({name}={total}): give 1 or more.")
        if total_steps is not None and total_epochs is not None:
            raise ValueError(
                f"DropoutScheduler(total_steps={total_steps}, total_epochs={total_epochs}): give one of them."
            )
        self.how = how
        self.schedule = as_schedule(schedule, bound=float("inf") if how == "scale" else 1.0)
        self.sites = (sites,) if isinstance(sites, str) else None if sites is None else tuple(sites)
        self.total_steps = total_steps
        self.total_epochs = total_epochs
        self._writer: SiteWriter | None = None

    @property
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
        found = find_sites(model)
        if self.sites is not None:
            try:
                return found.match(*self.sites)
            except ValueError as error:
                raise ValueError(f"DropoutScheduler(sites={list(self.sites)}): {error} Change sites=.") from None
        selected = Sites([site for site in found.of_kind(*DEFAULT_KINDS) if site.base_rate > 0.0])
        if len(selected) == 0:
            others = ", ".join(f"{name} at {group[0].rate:g}" for name, group in found.groups().items())
            raise ValueError(
                f"DropoutScheduler found no element-like dropout site with a rate above 0 in {type(model).__name__} "
                f"(found: {others or 'no site at all'}). Name the sites to drive with sites=."
            )
        return selected

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Claim the sites and check the whole schedule, before anything is trained."""
        self._release()
        sites = self.select(pl_module)
        self._progress = FitProgress(
            trainer, total_steps=self.total_steps, total_epochs=self.total_epochs, needed_by=str(self)
        )
        values = [self.rate_at(i / (_NUM_CHECKED - 1)) for i in range(_NUM_CHECKED)]
        if self.how == "scale":
            sites.check_factor(max(values))
        self._writer = SiteWriter(sites, model=pl_module, owner=str(self))
        self._base_ranges = {name: _range(list(group.base_rates().values())) for name, group in sites.groups().items()}
        groups = ", ".join(f"{name} ({len(group)})" for name, group in sites.groups().items())
        rank_zero_info(f"{self} drives {len(sites)} dropout sites: {groups}.")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Set the rates of this batch."""
        assert self._writer is not None
        value = self.rate_at(self._progress.now(trainer))
        if self.how == "set":
            self._writer.set(value)
        else:
            self._writer.scale(value)
        if trainer._logger_connector.should_update_logs:
            self._log(pl_module, value)

    def _log(self, pl_module: LightningModule, value: float) -> None:
        rates = {}
        for name, (low, mean, high) in self._base_ranges.items():
            if self.how == "set":
                rates[f"dropout/{name}"] = value
            else:
                rates[f"dropout/{name}"] = value * mean
                if low < high:
                    rates[f"dropout/{name}/min"], rates[f"dropout/{name}/max"] = value * low, value * high
        pl_module.log_dict(rates, on_step=True, on_epoch=False, batch_size=1)
        shown = "dropout" if self.sites is None else f"dropout {' '.join(self.sites)}"
        pl_module.log(shown, value, prog_bar=True, logger=False, on_step=True, on_epoch=False, batch_size=1)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the base rates."""
        self._release()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the base rates."""
        self._release()

    def state_dict(self) -> dict[str, Any]:
        """What the schedule was, to tell when a resumed run has another; its rates are computed, never saved."""
        return {"schedule": repr(self.schedule), "how": self.how}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Say in one line if the checkpoint was written under another schedule."""
        if state_dict != self.state_dict():
            rank_zero_info(
                f"{self} continues a run of {state_dict['schedule']} (how={state_dict['how']!r}): "
                "from here on the rates follow the new schedule."
            )

    def __str__(self) -> str:
        sites = "" if self.sites is None else f", sites={list(self.sites)}"
        return f"DropoutScheduler({self.schedule!r}{sites}, how={self.how!r})"

    def _release(self) -> None:
        if self._writer is not None:
            self._writer.release()
            self._writer = None


def _range(rates: Sequence[float]) -> tuple[float, float, float]:
    return min(rates), sum(rates) / len(rates), max(rates)
