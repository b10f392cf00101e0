"""Arguments of the commands that are no LightningCLI: whole words only, and errors of one line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import NoReturn

from lightning_dropout.cli.errors import UserError

__all__ = ["Parser", "number", "whole_number"]

_MISSING = re.compile(r"^the following arguments are required: (?P<names>.*)$")
_UNKNOWN = re.compile(r"^unrecognized arguments: (?P<first>\S+)")
_NO_VALUE = re.compile(r"^argument (?P<option>[^\s:/]+)\S*: expected .*argument")
_NO_CHOICE = re.compile(r"^argument [^:]+: invalid choice: '(?P<found>[^']*)' \(choose from (?P<choices>.*)\)$")


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` with examples, whose errors are user errors.

    Args:
        command: What is typed behind ``lightning-dropout``.
        purpose: What it does.
        examples: Command lines, without ``lightning-dropout``, and what they do.
    """

    def __init__(self, command: str, purpose: str, examples: Sequence[tuple[str, str]]) -> None:
        width = max(len(line) for line, _ in examples)
        shown = [f"  lightning-dropout {line:<{width}}  {does}".rstrip() for line, does in examples]
        super().__init__(
            prog=f"lightning-dropout {command}",
            description=purpose,
            epilog="\n".join(["examples:", *shown]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise a UserError that says what was found and what to do."""
        raise UserError(f"{self._explain(message)} See `{self.prog} --help`.")

    def _explain(self, message: str) -> str:
        if match := _MISSING.match(message):
            return f"there is no {match['names'].replace(', ', ' and no ')}."
        if match := _NO_VALUE.match(message):
            return f"{match['option']} is given no value."
        if match := _NO_CHOICE.match(message):
            choices = re.findall(r"[\w-]+", match["choices"])
            return f"found {match['found']!r}. {_hint(match['found'], choices)}"
        if match := _UNKNOWN.match(message):
            found = match["first"].partition("=")[0]
            if not found.startswith("-"):
                return f"found {found!r}, which is one too many."
            return f"there is no option {found!r}. {_hint(found, self._options())}"
        return message.removeprefix("argument ")

    def _options(self) -> Iterator[str]:
        """All long options."""
        return (option for option in self._option_string_actions if option.startswith("--"))


def _hint(found: str, known: Iterator[str] | Sequence[str]) -> str:
    known = sorted(known)
    near = get_close_matches(found, known, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."


def whole_number(text: str) -> int:
    """The value of an option that counts."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text!r}. Give a whole number.") from None


def number(text: str) -> float:
    """The value of an option that measures."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text!r}. Give a number.") from None
