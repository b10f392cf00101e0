"""Wall-clock time that adds up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

__all__ = ["Stopwatch"]


class Stopwatch:
    """Adds up the time spent in ``with`` blocks, and knows its share of the time since it was made.

    Example:
        >>> watch = Stopwatch()
        >>> with watch.running():
        ...     pass
        >>> 0.0 < watch.seconds < 1.0, 0.0 < watch.share <= 1.0
        (True, True)
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._start = perf_counter()

    @property
    def share(self) -> float:
        """The part of all time that was spent in the blocks."""
        return self.seconds / (perf_counter() - self._start)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time of a block, also of one that fails."""
        start = perf_counter()
        try:
            yield
        finally:
            self.seconds += perf_counter() - start
