"""Benchmarks silence the libraries that they use; their tests undo it."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.benchmarks.measure import LIBRARIES


@pytest.fixture(autouse=True)
def _restored_log_levels() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("lightning", *LIBRARIES)]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
