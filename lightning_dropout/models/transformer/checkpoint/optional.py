"""Packages that only checkpoint folders need."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["optional_module"]


def optional_module(name: str) -> Any:
    """Import ``name``.

    Raises:
        ImportError: With the command that installs it.
    """
    try:
        return import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise ImportError(
            f"Checkpoint folders need {package}, which is not installed. Run: pip install {package}"
        ) from None
