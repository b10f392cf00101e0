"""Watch which dropout operations are active while code runs, and where they come from."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from lightning_dropout.sites.calls import DropoutCall, dropout_call, is_draw
from lightning_dropout.sites.find import find_sites
from lightning_dropout.sites.location import Location, locate, module_names
from lightning_dropout.sites.site import Site

__all__ = ["DropoutEvent", "intended_dropout", "watch_dropout"]

_is_intended = ContextVar("_is_intended", default=False)


@dataclass(frozen=True)
class DropoutEvent:
    """One dropout operation: what was called, with which rate, by which module, from which line.

    ``module`` is the path of the innermost module whose method made the call, None if there is none; ``file`` and
    ``line`` are the innermost ones outside torch. For a layer that draws its mask itself, ``call`` is the function
    that drew it.
    """

    call: str
    rate: float
    module: str | None
    file: str
    line: int
    is_active: bool = True

    def __str__(self) -> str:
        state = "" if self.is_active else " and training off"
        owner = f" in {self.module!r}" if self.module else ""
        return f"{self.call} with rate {self.rate:g}{state}{owner} ({self.file}:{self.line})"


class _Watch(TorchFunctionMode):
    def __init__(self, model: nn.Module, events: list[DropoutEvent], *, inactive: bool) -> None:
        super().__init__()
        self._events = events
        self._inactive = inactive
        self._names = module_names(model)
        self._modules = {name: module for module, name in self._names.items()}
        self._sites: dict[str | None, list[Site]] = {}
        for site in find_sites(model):
            self._sites.setdefault(self._names[site.module], []).append(site)

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not _is_intended.get():
            if (call := dropout_call(func, args)) is not None:
                self._see_call(call, args, kwargs)
            elif is_draw(func):
                self._see_draw(f"torch.{func.__name__}")
        return func(*args, **kwargs)

    def _see_call(self, call: DropoutCall, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if (rate := call.active_rate(args, kwargs)) > 0.0:
            self._add(call.name, rate, self._where())
        elif self._inactive and (rate := float(call.rate.read(args, kwargs))) > 0.0 and torch.is_grad_enabled():
            where = self._where()
            if where.module is not None and self._modules[where.module].training:
                self._add(call.name, rate, where, is_active=False)

    def _see_draw(self, call: str) -> None:
        """A draw is for dropout if a rate lies in the same module and that drops now, or is there for nothing else."""
        where = self._where()
        for site in self._sites.get(where.module, ()):
            is_layer = next(site.module.parameters(), None) is None
            if (site.module.training or is_layer) and (rate := site.rate) > 0.0:
                self._add(call, rate, where)
                return

    def _where(self) -> Location:
        return locate(self._names, sys._getframe(1))

    def _add(self, call: str, rate: float, where: Location, *, is_active: bool = True) -> None:
        self._events.append(DropoutEvent(call, rate, where.module, where.file, where.line, is_active))


@contextmanager
def watch_dropout(model: nn.Module, *, inactive: bool = False) -> Iterator[list[DropoutEvent]]:
    """Collect the active dropout operations inside a ``with`` block, in this thread.

    These are the dropout functions of torch, called from wherever, and layers of ``model`` that draw their mask
    themselves. With ``inactive``, also the calls that record gradients and have their training flag off although the
    module that makes them is in train mode.

    Compiled functions run in eager inside the block, where their calls can be seen; nothing is compiled again.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
        >>> with watch_dropout(model) as events:
        ...     _ = model(torch.ones(1, 2))
        >>> [(event.call, event.rate, event.module) for event in events]
        [('F.dropout', 0.5, '1')]
    """
    events: list[DropoutEvent] = []
    with torch.compiler.set_stance("force_eager"), _Watch(model, events, inactive=inactive):
        yield events


@contextmanager
def intended_dropout() -> Iterator[None]:
    """Tell whoever watches that dropout inside a ``with`` block is meant, as it is in Monte Carlo sampling."""
    token = _is_intended.set(True)
    try:
        yield
    finally:
        _is_intended.reset(token)
