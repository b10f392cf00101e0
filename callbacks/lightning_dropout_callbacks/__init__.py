"""Callbacks that schedule, verify and watch dropout in any Lightning trainer."""

from lightning_dropout_callbacks.adaptive_dropout import AdaptiveDropout
from lightning_dropout_callbacks.defaults import default_callbacks
from lightning_dropout_callbacks.dropout_scheduler import DropoutScheduler
from lightning_dropout_callbacks.dropout_summary import DropoutSummary
from lightning_dropout_callbacks.mc_dropout import MCDropout
from lightning_dropout_callbacks.mode_guard import DropoutModeError, ModeGuard
from lightning_dropout_callbacks.overfitting_monitor import OverfittingMonitor
from lightning_dropout_callbacks.rank_seed import RankSeed

__all__ = [
    "AdaptiveDropout",
    "DropoutModeError",
    "DropoutScheduler",
    "DropoutSummary",
    "MCDropout",
    "ModeGuard",
    "OverfittingMonitor",
    "RankSeed",
    "default_callbacks",
]
