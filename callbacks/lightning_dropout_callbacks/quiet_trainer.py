"""A trainer that a module can do everything with, and that does nothing."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers.logger import DummyLogger, Logger

from lightning_dropout_callbacks.log_capture import LogCapture

__all__ = ["QuietTrainer"]


class QuietTrainer:
    """What the module sees as its trainer: the real one, less what would leave a trace.

    Values logged on the training batches stand where those of the validation would; attributes that are set stay here.
    """

    _results = None  # what logs past the capture has nowhere to log to

    def __init__(self, trainer: Trainer, logged: LogCapture) -> None:
        self._real, self._logged = trainer, logged
        self.loggers = [_SilentLogger(logger) for logger in trainer.loggers]
        self.logger = self.loggers[0] if self.loggers else None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    @property
    def callback_metrics(self) -> dict[str, torch.Tensor]:
        """What was logged on the training batches, over what the trainer knows."""
        values = {name: torch.tensor(share.value) for name, share in self._logged.shares.items()}
        return {**self._real.callback_metrics, **values}

    logged_metrics = callback_metrics

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""

    print = save_checkpoint


def _as_in_reality(name: str) -> Any:
    return property(lambda self: getattr(self._real, name))


class _SilentLogger(DummyLogger):
    """Knows where a logger writes to, and writes nothing."""

    name, version = _as_in_reality("name"), _as_in_reality("version")
    save_dir, root_dir, log_dir = _as_in_reality("save_dir"), _as_in_reality("root_dir"), _as_in_reality("log_dir")

    def __init__(self, logger: Logger) -> None:
        super().__init__()
        self._real = logger
