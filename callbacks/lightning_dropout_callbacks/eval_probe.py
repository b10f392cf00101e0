"""Observe evaluation batches for dropout that is still active."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import Tensor, nn

from lightning_dropout.sites import DropoutEvent, watch_dropout

__all__ = ["EvalProbe"]


class EvalProbe:
    """Finds active dropout calls in evaluation batches, without running a batch twice.

    The first batch of a run is only listened to: were random numbers drawn? That costs a comparison and works for
    compiled code. If they were, the next batch runs under a closer look, in eager, that names the dropout calls. Other
    randomness, such as sampling, is none of its business.
    """

    def __init__(self) -> None:
        self._suspicious = False
        self._done = False
        self._random_states: list[Tensor] = []
        self._look: ExitStack | None = None
        self._events: list[DropoutEvent] = []

    def start_run(self) -> None:
        """Begin an evaluation run; a suspicion from the last batch of the one before is followed up."""
        self._done = False

    def start_batch(self, model: nn.Module, device: torch.device, *, only_batch: bool) -> None:
        """Begin to observe a batch, unless this run has told already; an only batch is looked at closely at once."""
        if self._done:
            return
        if self._suspicious or only_batch:
            self._look = ExitStack()
            self._events = self._look.enter_context(watch_dropout(model))
        else:
            self._random_states = _random_states(device)

    def end_batch(self, device: torch.device) -> list[DropoutEvent]:
        """End the observation and return the active dropout calls that a closer look saw."""
        if self._look is not None:
            self.close()
            self._done, self._suspicious = True, False
            return list(dict.fromkeys(self._events))
        if not self._done:
            before, after = self._random_states, _random_states(device)
            self._suspicious = not all(map(torch.equal, before, after))
            self._done = not self._suspicious
        return []

    def close(self) -> None:
        """Stop looking; safe to call at any time."""
        if self._look is not None:
            self._look.close()
            self._look = None


def _random_states(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return states
