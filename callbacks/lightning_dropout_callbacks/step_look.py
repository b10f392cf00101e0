"""Look at one training step: what ran, and what drew random numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import wraps
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import nn

from lightning_dropout.sites import DropoutEvent, watch_dropout
from lightning_dropout_callbacks.compiled import runs_compiled
from lightning_dropout_callbacks.module_hook import replace_method
from lightning_dropout_callbacks.random_state import State, any_state, device_seed

__all__ = ["StepLook"]


class StepLook:
    """Observes ``training_step`` until it is closed, and some modules inside it. What records no gradients counts not.

    Nothing is run twice, and nothing drawn. Compiled code cannot be looked into without being compiled again, or run
    in eager with other results: of a module with such code, only the step as a whole is observed.
    """

    def __init__(self, module: LightningModule, inside: Iterable[nn.Module]) -> None:
        self.is_inside = not runs_compiled(module)
        #: The modules whose forward ran, and those of them that drew random numbers meanwhile.
        self.ran: set[nn.Module] = set()
        self.drew: set[nn.Module] = set()
        self.events: list[DropoutEvent] = []
        #: What masks are drawn from.
        self.seed: int | None = None
        self._device = module.device
        self._states: dict[nn.Module, State] = {}
        self._undo = ExitStack()
        self._undo.callback(replace_method(module, "training_step", self._observed(module)))
        if self.is_inside:
            for each in inside:
                self._undo.callback(each.register_forward_pre_hook(self._before).remove)
                self._undo.callback(each.register_forward_hook(self._after).remove)
            self.events = self._undo.enter_context(watch_dropout(module, inactive=True))

    def close(self) -> None:
        """Stop looking."""
        self._undo.close()

    def _observed(self, module: LightningModule) -> Callable[..., Any]:
        step = module.training_step

        @wraps(step)  # Lightning reads from the signature what to pass
        def observed_step(*args: Any, **kwargs: Any) -> Any:
            self.seed = device_seed(self._device)
            before = any_state(self._device)
            output = step(*args, **kwargs)
            self._note(module, before)
            return output

        return observed_step

    def _before(self, module: nn.Module, *_: Any) -> None:
        self._states[module] = any_state(self._device)

    def _after(self, module: nn.Module, *_: Any) -> None:
        self._note(module, self._states.pop(module, None))

    def _note(self, module: nn.Module, before: State | None) -> None:
        if torch.is_grad_enabled():
            self.ran.add(module)
            if any_state(self._device) != before:
                self.drew.add(module)
