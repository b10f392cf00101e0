"""Run a model and leave no trace in it."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import nn

__all__ = ["preserve"]


@contextmanager
def preserve(model: nn.Module) -> Iterator[None]:
    """Put back the modes and buffers of ``model`` and all random states afterwards, also on exceptions."""
    with ExitStack() as undo:
        for module in model.modules():
            undo.callback(setattr, module, "training", module.training)
            if isinstance(module, torch.jit.ScriptModule):
                continue  # its buffers cannot be put back from here
            undo.callback(_put_buffers_back, module, [(*item, _copy(item[1])) for item in module._buffers.items()])
        for restore in _random_states():
            undo.callback(restore)
        yield


def _copy(buffer: torch.Tensor | None) -> torch.Tensor | None:
    return None if buffer is None else buffer.detach().clone()


def _put_buffers_back(module: nn.Module, buffers: list[tuple[str, torch.Tensor | None, torch.Tensor | None]]) -> None:
    module._buffers.clear()
    for name, buffer, content in buffers:
        module._buffers[name] = buffer
        if buffer is not None and content is not None and not (buffer.is_meta or torch.equal(buffer, content)):
            with torch.no_grad():
                buffer.copy_(content)


def _random_states() -> Iterator[Callable[[], None]]:
    """How to put back every random state there is: Python's, NumPy's, and those of torch's devices in use."""
    yield partial(random.setstate, random.getstate())
    if (numpy := sys.modules.get("numpy")) is not None:
        yield partial(numpy.random.set_state, numpy.random.get_state())
    yield partial(torch.set_rng_state, torch.get_rng_state())
    accelerator = torch.accelerator.current_accelerator()
    if accelerator is None:
        return
    backend = torch.get_device_module(accelerator)
    if not hasattr(backend, "get_rng_state_all"):
        yield partial(backend.set_rng_state, backend.get_rng_state())
    elif backend.is_initialized():
        yield partial(backend.set_rng_state_all, backend.get_rng_state_all())
