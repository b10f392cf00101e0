"""Checks that the configs of a Transformer share."""

from __future__ import annotations

from typing import Literal, get_args, get_origin, get_type_hints

__all__ = ["check_choices", "check_counts"]


def check_choices(config: object) -> None:
    """Refuse a value that is not among the choices of its field.

    Raises:
        ValueError: Naming the field, what it was and what it can be.
    """
    for name, hint in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if get_origin(hint) is Literal and value not in get_args(hint):
            choices = ", ".join(map(repr, get_args(hint)))
            raise ValueError(f"{_title(config)}({name}={value!r}) is unknown. Give one of {choices}.")


def check_counts(config: object, *names: str) -> None:
    """Refuse a count below 1; None is left to its default.

    Raises:
        ValueError: Naming the field and what it was.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ValueError(f"{_title(config)}({name}={value}) is too small. Give 1 or more.")


def _title(config: object) -> str:
    name = type(config).__name__
    return "Transformer" if name == "TransformerConfig" else name
