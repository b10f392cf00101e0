"""One row of rates for each logged step, however many callbacks set them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from lightning.pytorch import Callback, Trainer

__all__ = ["RateLog", "RateSummary"]

_logs: WeakKeyDictionary[Trainer, RateLog] = WeakKeyDictionary()


class RateSummary(NamedTuple):
    """The rates of some sites."""

    low: float
    mean: float
    high: float
    num_sites: int

    def scaled(self, factor: float) -> RateSummary:
        """What becomes of it if every rate is multiplied."""
        return RateSummary(factor * self.low, factor * self.mean, factor * self.high, self.num_sites)

    def merged(self, other: RateSummary) -> RateSummary:
        """That of the sites of both."""
        num_sites = self.num_sites + other.num_sites
        mean = (self.mean * self.num_sites + other.mean * other.num_sites) / num_sites
        return RateSummary(min(self.low, other.low), mean, max(self.high, other.high), num_sites)


class RateLog:
    """Collects the rates that the callbacks of one trainer set for a step, and logs them together.

    Several callbacks may drive sites of one group, and loggers make a row of every call: one for each callback would
    be a step of its own in W&B and a row in a CSV file. Rates are logged as Lightning's ``LearningRateMonitor`` logs
    learning rates: what a module logs, Lightning looks at again in every later step.
    """

    def __init__(self) -> None:
        self._drivers: set[Callback] = set()
        self._groups: dict[str, RateSummary] = {}

    @classmethod
    def of(cls, trainer: Trainer) -> RateLog:
        """The log that all callbacks of ``trainer`` share."""
        return _logs.setdefault(trainer, cls())

    def join(self, driver: Callback) -> None:
        """Wait for ``driver`` too from now on."""
        self._drivers.add(driver)

    def leave(self, driver: Callback) -> None:
        """Wait for ``driver`` no longer, and drop what is not logged yet of the step that it leaves in."""
        self._drivers.discard(driver)
        self._groups = {}

    def add(self, driver: Callback, trainer: Trainer, groups: Mapping[str, RateSummary], *, step: int) -> None:
        """Take what ``driver`` has set for ``step``; log it with that of the others if it is the last to act."""
        for name, summary in groups.items():
            before = self._groups.get(name)
            self._groups[name] = summary if before is None else before.merged(summary)
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        if driver is next((callback for callback in reversed(callbacks) if callback in self._drivers), driver):
            self._log(trainer, step)

    def _log(self, trainer: Trainer, step: int) -> None:
        rates = {}
        for name, summary in self._groups.items():
            rates[f"dropout/{name}"] = summary.mean
            if summary.low < summary.high:
                rates[f"dropout/{name}/min"], rates[f"dropout/{name}/max"] = summary.low, summary.high
        self._groups = {}
        for logger in trainer.loggers:
            logger.log_metrics(rates, step=step)
        device = trainer.strategy.root_device
        trainer.callback_metrics.update({name: torch.tensor(rate, device=device) for name, rate in rates.items()})
