"""Observe evaluation batches for dropout that is still active."""

from __future__ import annotations

from contextlib import ExitStack

from lightning.pytorch import LightningModule

from lightning_dropout.sites import DropoutEvent, watch_dropout
from lightning_dropout_callbacks.random_state import State, torch_state

__all__ = ["EvalProbe"]

_NUM_FIRST = 2


class EvalProbe:
    """Finds active dropout in evaluation batches, without running a batch twice.

    The first batches of every loader, and then every so many, are listened to: were random numbers drawn? That costs a
    comparison and works for compiled code. If they were, the next batch runs under a closer look, in eager, that names
    the dropout operations. Other randomness, such as sampling, is none of its business.
    """

    def __init__(self, every_n_batches: int) -> None:
        self.num_batches = 0
        self._every = every_n_batches
        self._is_suspicious = False
        self._before: State | None = None
        self._look = ExitStack()
        self._events: list[DropoutEvent] | None = None

    def start_batch(self, module: LightningModule, batch_idx: int, *, only_batch: bool) -> None:
        """Begin to observe a batch if it is its turn; an only batch is looked at closely at once."""
        self.close()
        if self._is_suspicious or only_batch:
            self._events = self._look.enter_context(watch_dropout(module))
        elif batch_idx < _NUM_FIRST or batch_idx % self._every == 0:
            self._before = torch_state(module.device)

    def end_batch(self, module: LightningModule) -> list[DropoutEvent]:
        """End the observation and return the active dropout operations that a closer look saw."""
        events, before = self._events, self._before
        self.close()
        if events is None and before is None:
            return []
        self.num_batches += 1
        self._is_suspicious = before is not None and torch_state(module.device) != before
        return list(dict.fromkeys(events or ()))

    def close(self) -> None:
        """Stop looking; safe to call at any time. A suspicion is followed up in the next run."""
        self._look.close()
        self._before = self._events = None
