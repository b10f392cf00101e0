"""Where a rate lies: read and write a float by its path from a module."""

from __future__ import annotations

from typing import Any, TypeAlias

from torch import nn

__all__ = ["Place", "holder_of", "read_place", "write_place"]

#: A module and the path of a float from there: an attribute (``"p"``), an item of a tuple or list
#: (``"layer_dropouts.3"``) or an attribute of an attribute (``"config.layerdrop"``).
Place: TypeAlias = tuple[nn.Module, str]


def holder_of(module: nn.Module, path: str) -> tuple[Any, str]:
    """The object and the name of its attribute that have to be put back to undo a ``write_place``."""
    first, _, rest = path.partition(".")
    return (getattr(module, first), rest) if rest and not rest.isdigit() else (module, first)


def read_place(module: nn.Module, path: str) -> Any:
    """The value at ``path``."""
    if "." not in path:
        return getattr(module, path)
    first, rest = path.split(".")
    holder = getattr(module, first)
    return holder[int(rest)] if rest.isdigit() else getattr(holder, rest)


def write_place(module: nn.Module, path: str, value: float) -> None:
    """Put ``value`` at ``path``; of a tuple or list, a changed copy takes the place."""
    if "." not in path:
        setattr(module, path, value)
        return
    first, rest = path.split(".")
    holder = getattr(module, first)
    if rest.isdigit():
        items = list(holder)
        items[int(rest)] = value
        setattr(module, first, type(holder)(items))
    else:
        setattr(holder, rest, value)
