"""Where a call comes from: the innermost module, and the line outside torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch
from torch import nn

import lightning_dropout.layers
from lightning_dropout.sites.find import clean_name, unwrap

__all__ = ["Location", "locate", "module_names"]

_INSIDE = tuple(str(Path(file).parent) for file in (torch.__file__, __file__, lightning_dropout.layers.__file__))


@dataclass(frozen=True)
class Location:
    """The innermost module whose method is running, by name, and the innermost line outside torch and ourselves."""

    module: str | None
    file: str
    line: int
    code: CodeType | None = None

    @property
    def source(self) -> str:
        """File name and line."""
        return f"{Path(self.file).name}:{self.line}"

    def has_constant(self, value: float) -> bool:
        """Whether ``value`` is written in the code there."""
        return self.code is not None and value in self.code.co_consts


def module_names(model: nn.Module) -> dict[Any, str]:
    """The name of every module of ``model``."""
    return {module: clean_name(path) for path, module in unwrap(model).named_modules()}


def locate(names: Mapping[Any, str], frame: FrameType | None) -> Location:
    """Where the code in ``frame`` was called from."""
    module, outside = None, None
    while frame is not None and (module is None or outside is None):
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
