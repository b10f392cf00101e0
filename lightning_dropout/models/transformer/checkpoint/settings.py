"""What a ``config.json`` may say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["require"]


def require(settings: Mapping[str, Any], name: str, *allowed: Any, default: Any = None) -> None:
    """Refuse a setting that ``Transformer`` cannot follow; one that is absent has its default.

    Raises:
        ValueError: Naming the setting, what it was and what it can be.
    """
    value = settings.get(name, default)
    if value is not None and value not in allowed:
        raise ValueError(
            f"config.json says {name}={value!r}, but Transformer can only follow {' or '.join(map(repr, allowed))}. "
            "Use another checkpoint."
        )
