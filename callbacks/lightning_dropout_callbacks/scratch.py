"""A second copy of a module's state, for running the module without leaving a trace on it."""

from __future__ import annotations

import copy
import random
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from numbers import Number
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

__all__ = ["Scratch"]

_CONTAINERS = (list, tuple, dict, set, deque, defaultdict, OrderedDict, Counter)
_PLAIN = (*_CONTAINERS, Number, str, bytes, Tensor, torch.device, torch.dtype, type(None))


class Scratch:
    """The state that objects had when this was made, ready to be swapped with the state they have now.

    Held twice: the attributes of modules (torchmetrics among them), learning rate schedulers and plain records such as
    an ``AverageMeter``; lists, dicts and sets in them; random generators; the contents of buffers and other tensors
    that are attributes.
    Shared: parameters and everything else.

    State is swapped instead of the module being cloned, because forward hooks, closures, back references and compiled
    code go on pointing at the module itself.

    Example:
        >>> module = nn.BatchNorm1d(1)
        >>> module.seen = []
        >>> scratch = Scratch([module])
        >>> with scratch.entered():
        ...     module.seen.append(module(torch.tensor([[1.0], [3.0]])))
        >>> module.seen, module.running_mean.item(), module.num_batches_tracked.item()
        ([], 0.0, 0)
        >>> with scratch.entered():
        ...     len(module.seen)
        1
    """

    def __init__(self, owners: Iterable[object]) -> None:
        self._spaces: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._tensors: list[tuple[Tensor, Tensor]] = []
        copies: dict[int, Any] = {}
        for owner in owners:
            if isinstance(owner, dict):
                self._hold(owner, copies)
            else:
                self._copy(owner, copies)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Run a block on the copy; what it changes is kept in the copy for the next time."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for i, (space, other) in enumerate(self._spaces):
            self._spaces[i] = (space, dict(space))
            space.update(other)
            for name in space.keys() - other.keys():
                del space[name]
        # All are read before one is written, as they may share memory.
        contents = [tensor.detach().clone() for tensor, _ in self._tensors]
        for i, (tensor, content) in enumerate(self._tensors):
            tensor.detach().copy_(content)
            self._tensors[i] = (tensor, contents[i])

    def _hold(self, space: dict[str, Any], copies: dict[int, Any]) -> None:
        other: dict[str, Any] = {}
        self._spaces.append((space, other))
        for name, value in space.items():
            # Sharded parameters change places as a forward goes on: only what shards them knows where they are.
            other[name] = value if name == "_parameters" else self._copy(value, copies)
            for tensor in value.values() if name == "_buffers" else [value]:
                if isinstance(tensor, Tensor) and id(tensor) not in copies and _is_writable(tensor):
                    copies[id(tensor)] = tensor
                    self._tensors.append((tensor, tensor.detach().clone()))

    def _copy(self, value: Any, copies: dict[int, Any]) -> Any:
        if isinstance(value, Tensor):
            return value
        if id(value) in copies:
            return copies[id(value)]
        copies[id(value)] = value
        if isinstance(value, torch.Generator):
            copies[id(value)] = value.clone_state()
        elif isinstance(value, (random.Random, np.random.Generator, np.random.RandomState)):
            copies[id(value)] = copy.deepcopy(value)
        elif isinstance(value, (nn.Module, LRScheduler)) or _is_record(value):
            self._hold(vars(value), copies)
        elif type(value) in _CONTAINERS:
            copies[id(value)] = self._copy_container(value, copies)
        return copies[id(value)]

    def _copy_container(self, value: Any, copies: dict[int, Any]) -> Any:
        if isinstance(value, tuple):
            return tuple(self._copy(item, copies) for item in value)
        other = copies[id(value)] = copy.copy(value)
        if isinstance(other, dict):
            for key, item in value.items():
                other[key] = self._copy(item, copies)
        elif not isinstance(other, set):
            for i, item in enumerate(value):
                other[i] = self._copy(item, copies)
        return other


def _is_record(value: object) -> bool:
    """Whether an object holds only data, so that its attributes can be put back without breaking a resource."""
    if isinstance(value, (type, ModuleType, Optimizer)) or type(getattr(value, "__dict__", None)) is not dict:
        return False
    return all(isinstance(item, _PLAIN) for item in vars(value).values())


def _is_writable(tensor: Tensor) -> bool:
    """Whether code can have written to a tensor in place: not to an expanded one, nor to one without memory."""
    if isinstance(tensor, nn.Parameter) or tensor.is_meta or tensor.layout != torch.strided:
        return False
    return all(stride != 0 or size < 2 for stride, size in zip(tensor.stride(), tensor.shape, strict=True))
