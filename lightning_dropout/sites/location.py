"""Where a call comes from: the innermost module, and the line outside torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch
from torch import nn

from lightning_dropout.sites.find import clean_name, unwrap

__all__ = ["Location", "locate", "module_names", "short_source"]

_OURS = Path(__file__).parents[1]
_INSIDE = tuple(map(str, (Path(torch.__file__).parent, _OURS / "sites", _OURS / "layers")))
# A command calls the model itself: further out there is no line of the user's.
_COMMANDS = str(_OURS / "cli")


@dataclass(frozen=True)
class Location:
    """The innermost module whose method is running, by name, and the innermost line outside torch and ourselves."""

    module: str | None
    file: str
    line: int
    code: CodeType | None = None

    @property
    def source(self) -> str:
        """File name and line; empty where a command called a layer of torch and no code of the user's did."""
        return short_source(self.file, self.line)

    def has_constant(self, value: float) -> bool:
        """Whether ``value`` is written in the code there."""
        return self.code is not None and value in self.code.co_consts


def short_source(file: str, line: int) -> str:
    """File name and line, or nothing where there is no line."""
    return f"{Path(file).name}:{line}" if line else ""


def module_names(model: nn.Module) -> dict[Any, str]:
    """The name of every module of ``model``."""
    return {module: clean_name(path) for path, module in unwrap(model).named_modules()}


def locate(names: Mapping[Any, str], frame: FrameType | None) -> Location:
    """Where the code in ``frame`` was called from."""
    module, outside = None, None
    while frame is not None and (module is None or outside is None):
        if frame.f_code.co_filename.startswith(_COMMANDS):
            break
        if module is None:
            module = names.get(_module_of(frame))
        if outside is None and not frame.f_code.co_filename.startswith(_INSIDE):
            outside = frame.f_code, frame.f_lineno
        frame = frame.f_back
    code, line = outside or (None, 0)
    return Location(module, code.co_filename if code else "?", line, code)


def _module_of(frame: FrameType) -> Any:
    """The module whose method, or whose helper function, runs in ``frame``."""
    for name in ("self", "module"):
        if isinstance(value := frame.f_locals.get(name), nn.Module):
            return value
    return None
