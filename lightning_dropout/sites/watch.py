"""Watch which dropout calls are active while code runs, and where they come from."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from lightning_dropout.sites.calls import dropout_call
from lightning_dropout.sites.location import locate, module_names

__all__ = ["DropoutEvent", "watch_dropout"]


@dataclass(frozen=True)
class DropoutEvent:
    """One active dropout call: what was called, with which rate, by which module, from which line.

    ``module`` is the path of the innermost module whose method made the call, None if there is none; ``file`` and
    ``line`` are the innermost ones outside torch.
    """

    call: str
    rate: float
    module: str | None
    file: str
    line: int

    def __str__(self) -> str:
        owner = f" in {self.module!r}" if self.module else ""
        return f"{self.call} with rate {self.rate:g}{owner} ({self.file}:{self.line})"


class _Watch(TorchFunctionMode):
    def __init__(self, model: nn.Module, events: list[DropoutEvent]) -> None:
        super().__init__()
        self._names = module_names(model)
        self._events = events

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        call = dropout_call(func, args)
        if call is not None and (rate := call.active_rate(args, kwargs)) > 0.0:
            where = locate(self._names, sys._getframe(1))
            self._events.append(DropoutEvent(call.name, rate, where.module, where.file, where.line))
        return func(*args, **kwargs)


@contextmanager
def watch_dropout(model: nn.Module) -> Iterator[list[DropoutEvent]]:
    """Collect the active dropout calls made inside a ``with`` block, in this thread.

    Compiled functions run in eager inside the block, where their calls can be seen; nothing is compiled again.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
        >>> with watch_dropout(model) as events:
        ...     _ = model(torch.ones(1, 2))
        >>> [(event.call, event.rate, event.module) for event in events]
        [('F.dropout', 0.5, '1')]
    """
    events: list[DropoutEvent] = []
    with torch.compiler.set_stance("force_eager"), _Watch(model, events):
        yield events
