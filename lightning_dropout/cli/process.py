"""What a run asks of its process: variables, where notices go, which warnings are idle, what a hangup does."""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

__all__ = ["environment", "hangup_exits", "ignored_warnings", "leave_process_group", "lightning_log"]


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, also for the processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def ignored_warnings() -> Iterator[None]:
    """Leave out two warnings that a user can do nothing about."""
    with warnings.catch_warnings():
        # Lightning 2.6 under torch 2.13 warns about itself at every batch transfer.
        warnings.filterwarnings("ignore", message=r".*treespec, LeafSpec", category=FutureWarning)
        # Every run has a folder of its own, so a run that goes on from a checkpoint always has another one.
        warnings.filterwarnings("ignore", message="The dirpath has changed", category=UserWarning)
        yield


@contextmanager
def lightning_log(level: int) -> Iterator[None]:
    """Print Lightning's notices from ``level`` on, and on stdout: stderr is for what went wrong."""
    loggers = [logging.getLogger(name) for name in ("lightning", "lightning.pytorch", "lightning.fabric")]
    handlers = [h for logger in loggers for h in logger.handlers if isinstance(h, logging.StreamHandler)]
    levels, streams = [logger.level for logger in loggers], [handler.stream for handler in handlers]
    for logger in loggers:
        logger.setLevel(level)
    for handler in handlers:
        handler.stream = sys.stdout
    try:
        yield
    finally:
        for logger, old_level in zip(loggers, levels, strict=True):
            logger.setLevel(old_level)
        for handler, stream in zip(handlers, streams, strict=True):
            handler.stream = stream


@contextmanager
def hangup_exits() -> Iterator[None]:
    """Let a closed terminal end the run as an exception does, so that what it measured is kept.

    Lightning does as much for an interrupt and for SIGTERM. A process started with nohup goes on.
    """
    if not hasattr(signal, "SIGHUP") or signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL:
        yield
        return

    def leave(number: int, frame: Any) -> NoReturn:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGHUP, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def leave_process_group() -> None:
    """Let all ranks of a run end together: gloo can abort a process that exits while its group is alive."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()
