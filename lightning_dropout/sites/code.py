"""What the code of a module class reads."""

from __future__ import annotations

import dis
import re
from collections.abc import Iterator
from functools import cache
from types import CellType, CodeType, FunctionType
from typing import Any

__all__ = ["SETTINGS", "class_name", "names_read", "names_read_in_forward"]

#: Names of attributes that hold settings.
SETTINGS = frozenset({"config", "cfg", "args", "hparams"})
# A rate that is read only here has been handed on by the time the model runs.
_CONSTRUCTION = re.compile(
    r"__init__|__repr__|extra_repr|_?reset_parameters|_?init_weights|_?(build|make|create|from)_.*"
)
_NOT_THE_MODELS = re.compile(r"(torch|lightning|pytorch_lightning|lightning_dropout\.sites)(\.|$)")


@cache
def names_read(cls: type) -> frozenset[str]:
    """All names that the methods of a module class load, except in methods that only construct or describe.

    A rate that no method of its class loads is dead: it was handed to a layer when the module was built. What is loaded
    from an object of settings is named as in ``"config.dropout"``.
    """
    names: set[str] = set()
    for base in _own_classes(cls):
        for name, value in vars(base).items():
            if not _CONSTRUCTION.fullmatch(name):
                names |= _names_in(value)
    return frozenset(names)


@cache
def names_read_in_forward(cls: type) -> frozenset[str]:
    """All names that ``forward`` of a module class loads."""
    return frozenset().union(*(_names_in(vars(base).get("forward")) for base in _own_classes(cls)))


@cache
def class_name(cls: type) -> str:
    """Name of the class that the model's author wrote; empty for torch's own, such as ``nn.Sequential``."""
    return next((base.__name__ for base in _own_classes(cls)), "")


def _own_classes(cls: type) -> Iterator[type]:
    # Not what FSDP and live rates put on top, nor the bases of torch and Lightning below.
    return (base for base in cls.__mro__ if base is not object and not _NOT_THE_MODELS.match(base.__module__))


def _names_in(value: Any) -> set[str]:
    """Names in the code of a method, of the functions inside it and of those behind its decorators."""
    names: set[str] = set()
    seen: set[int] = set()
    pending: list[Any] = [value]
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, property):
            pending.append(value.fget)
        elif isinstance(value, (staticmethod, classmethod)):
            pending.append(value.__func__)
        elif isinstance(value, FunctionType):
            cells = (_content(cell) for cell in value.__closure__ or ())
            pending += [value.__code__, *(cell for cell in cells if isinstance(cell, FunctionType))]
        elif isinstance(value, CodeType):
            names.update(_loaded_names(value))
            names.update(constant for constant in value.co_consts if isinstance(constant, str))  # of a getattr()
            pending += [constant for constant in value.co_consts if isinstance(constant, CodeType)]
    return names


def _loaded_names(code: CodeType) -> Iterator[str]:
    if not (
        not SETTINGS.isdisjoint(code.co_names + code.co_varnames) and any("drop" in name for name in code.co_names)
    ):
        yield from code.co_names
        return
    before = None
    for instruction in dis.get_instructions(code):
        if instruction.opname.startswith("LOAD_") and instruction.argval in code.co_names:
            yield f"{before}.{instruction.argval}" if before in SETTINGS else instruction.argval
        before = instruction.argval


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return None
