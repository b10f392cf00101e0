"""A value of the wrong type, in words: what was found, and all that may be given."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pydoc import locate

__all__ = ["mismatch"]

_EXPECTED = re.compile(r"(?:Expected an?|Not a valid subclass of) (?P<type>.+?)(?:\. Got value: (?P<value>.*))?$")
_NESTED = re.compile(r"^NestedArg\(key='[^']*', val=(.*)\)$")
_CLASS = re.compile(r"^<class '([^']+)'>$")
_BARE = re.compile(r"^[\[{(\d.+'\"-]|^(None|True|False)$")
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "NoneType": "null",
    "list": "a list",
    "tuple": "a list",
    "Iterable": "a list",
    "Sequence": "a list",
    "dict": "a mapping",
    "Callable": "a function",
}


def mismatch(lines: list[str], index: int) -> str | None:
    """What ``lines[index]`` of a message of jsonargparse expected, with the alternatives around it; None if nothing.

    Example:
        >>> mismatch(["Expected a <class 'int'>. Got value: many"], 0)
        "found 'many'. Give a whole number."
    """
    match = _EXPECTED.match(lines[index].lstrip(" -"))
    if match is None:
        return None
    types, value = [match["type"]], match["value"]
    if value is None:
        depth = len(lines[index]) - len(lines[index].lstrip())
        union = next((i for i in range(index, -1, -1) if _starts(lines[i], "Subtypes: [", depth)), None)
        found = next((line for line in lines[index:] if _starts(line, "Given value: ", depth)), None)
        if union is None or found is None:
            return None
        types = list(_split(lines[union].strip().removeprefix("Subtypes: [").removesuffix("]")))
        value = found.strip().removeprefix("Given value: ")
    value = _NESTED.sub(r"\1", value)
    if near := get_close_matches(value.rpartition(".")[2], _subclasses(types), n=1):
        return f"found {_quoted(value)}. Did you mean {near[0]!r}?"
    *words, last = dict.fromkeys(word for name in types for word in _words(name))
    return f"found {_quoted(value)}. Give {', '.join(words)}{' or ' if words else ''}{last}."


def _starts(line: str, beginning: str, depth: int) -> bool:
    return line.lstrip().startswith(beginning) and len(line) - len(line.lstrip()) < depth


def _quoted(value: str) -> str:
    short = value if len(value) <= 80 else f"{value[:80]}..."
    return short if _BARE.match(short) else repr(short)


def _split(types: str) -> Iterator[str]:
    """The types of a union, at the commas that are in no bracket."""
    depth, begin = 0, 0
    for index, character in enumerate(types):
        depth += (character == "[") - (character == "]")
        if character == "," and depth == 0:
            yield types[begin:index].strip()
            begin = index + 1
    yield types[begin:].strip()


def _words(name: str) -> Iterator[str]:
    if name.startswith("typing.Literal["):
        yield from _split(name.removeprefix("typing.Literal[").removesuffix("]"))
        return
    if name in ("<class 'bool'>", "bool"):
        yield from ("true", "false")
        return
    plain = (_CLASS.sub(r"\1", name).partition("[")[0]).rpartition(".")[2]
    yield _WORDS.get(plain, f"{'an' if plain[:1] in 'AEIOU' else 'a'} {plain}")


def _subclasses(types: Iterable[str]) -> list[str]:
    """Names of the classes that could stand for one of the types that is an abstract class."""
    todo = [locate(match[1]) for name in types if (match := _CLASS.match(name)) and "." in match[1]]
    found: list[str] = []
    while todo:
        kind = todo.pop()
        children: list[type] = type.__subclasses__(kind) if isinstance(kind, type) else []
        found += [child.__name__ for child in children]
        todo += children
    return found
