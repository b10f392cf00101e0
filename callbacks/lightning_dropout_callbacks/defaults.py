"""The callbacks that every fit can have: none of them changes the training."""

from __future__ import annotations

from lightning.pytorch import Callback

from lightning_dropout_callbacks.dropout_summary import DropoutSummary
from lightning_dropout_callbacks.mode_guard import ModeGuard
from lightning_dropout_callbacks.overfitting_monitor import OverfittingMonitor

__all__ = ["default_callbacks"]


def default_callbacks() -> list[Callback]:
    """The site table, the mode guard and the overfitting monitor: they read, and leave training as it is bit for bit.

    Example:
        >>> [type(callback).__name__ for callback in default_callbacks()]
        ['DropoutSummary', 'ModeGuard', 'OverfittingMonitor']
    """
    return [DropoutSummary(), ModeGuard(), OverfittingMonitor()]
