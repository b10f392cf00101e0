"""Checks that the networks and their configs share."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Literal, get_args, get_origin, get_type_hints

__all__ = ["check_choices", "check_counts", "check_dropout", "check_sizes", "check_widths"]


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
    """Refuse what is no whole number from 1 on; None is left to its default.

    Raises:
        ValueError: Naming the field and what it was.
    """
    values = {name: getattr(config, name) for name in names}
    check_sizes(_title(config), **{name: value for name, value in values.items() if value is not None})


def check_sizes(network: str, **sizes: object) -> None:
    """Refuse what is no whole number from 1 on.

    Raises:
        ValueError: Naming the argument and what it was.
    """
    for name, value in sizes.items():
        if not _is_count(value):
            raise ValueError(f"{network}({name}={value!r}): give a whole number from 1 on.")


def check_widths(network: str, widths: object) -> None:
    """Refuse what is no sequence of whole numbers from 1 on.

    Raises:
        ValueError: Saying what it was.
    """
    if not isinstance(widths, Sequence) or not all(map(_is_count, widths)):
        raise ValueError(f"{network}(widths={widths!r}): give whole numbers from 1 on, such as [64, 64].")


def check_dropout(network: str, dropout: object, config: type) -> None:
    """Refuse rates that are in no config of the network, such as one number for all sites.

    Raises:
        ValueError: Naming what it was and the config.
    """
    if not isinstance(dropout, config):
        fields = ", ".join(list(get_type_hints(config))[:4])
        raise ValueError(
            f"{network}(dropout={dropout!r}): each site has a rate of its own. Give a {config.__name__}(...), with "
            f"{fields} and so on."
        )


def _is_count(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def _title(config: object) -> str:
    name = type(config).__name__
    return "Transformer" if name == "TransformerConfig" else name
