"""One row of rates for each logged step, however many callbacks set them."""

from __future__ import annotations

from collections.abc import Mapping
from weakref import WeakKeyDictionary

import torch
from lightning.pytorch import Trainer

__all__ = ["RateLog"]

_logs: WeakKeyDictionary[Trainer, RateLog] = WeakKeyDictionary()


class RateLog:
    """Collects the rates that the drivers of one trainer set for a step, and logs them together.

    Loggers make a row of every call: one for each driver would be a step of its own in W&B and a row in a CSV file.
    Rates are logged as Lightning's ``LearningRateMonitor`` logs learning rates: what a module logs, Lightning looks at
    again in every later step.
    """

    def __init__(self) -> None:
        self._drivers: list[object] = []
        self._rates: dict[str, float] = {}

    @classmethod
    def of(cls, trainer: Trainer) -> RateLog:
        """The log that all drivers of ``trainer`` share."""
        return _logs.setdefault(trainer, cls())

    def join(self, driver: object) -> None:
        """Wait for ``driver`` too from now on; drivers join in the order in which they act in a step."""
        self._drivers.append(driver)

    def leave(self, driver: object) -> None:
        """Wait for ``driver`` no longer, and drop what is not logged yet of the step that it leaves in."""
        self._drivers.remove(driver)
        self._rates = {}

    def add(self, driver: object, trainer: Trainer, rates: Mapping[str, float], *, step: int) -> None:
        """Take what ``driver`` has set for ``step``, and log it with that of the others if it is the last of them."""
        device = trainer.strategy.root_device
        trainer.callback_metrics.update({name: torch.tensor(rate, device=device) for name, rate in rates.items()})
        self._rates.update(rates)
        if driver is self._drivers[-1]:
            for logger in trainer.loggers:
                logger.log_metrics(self._rates, step=step)
            self._rates = {}
