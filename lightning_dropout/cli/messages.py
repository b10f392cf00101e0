"""One line from the many that jsonargparse says about a wrong option, with the nearest right one."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from pydoc import locate

__all__ = ["explain"]

_UNKNOWN_OPTION = re.compile(
    r"Group '(?P<group>[^']+)' does not accept option '(?P<member>[^']+)'"
    r"|(?:O|o)ption '(?P<option>[^']+)'(?: is not accepted)?$"
    r"|unrecognized arguments: --(?P<argument>[^\s=]+)"
)
_CLASS_OR_TYPING = re.compile(r"<class '([^']+)'>|typing\.")
_UNKNOWN_CLASS = re.compile(r"module '(?P<module>[^']+)' has no attribute '(?P<name>[^']+)'")


def explain(message: str, parser: ArgumentParser) -> str:
    """The reason in ``message``, an error of ``parser``, and what to do about it.

    A value that fits none of several types is told with all of them, one in the other; the reason is what stands
    deepest, and the lines above it say where.
    """
    lines = message.splitlines() or [""]
    deepest = max(range(len(lines)), key=lambda i: (_depth(lines[i]), -i))
    reason = lines[deepest].lstrip(" -")
    above = _ancestors(lines, deepest)
    keys = [match[1] for line in above if (match := re.search(r'Parser key "([^"]+)"', line))]
    classes = [match[1] for line in above if (match := re.search(r"class_path '([^']+)'", line))]
    where = f"{'.'.join(keys)}: " if keys else ""
    if not above or not (keys or classes):
        reason = " ".join(message.split())
    if match := _UNKNOWN_OPTION.search(reason):
        option = match["option"] or match["argument"] or f"{match['group']}.{match['member']}"
        if option == "class_path":
            return f"{where}beside class_path there is an unknown key. Only init_args and dict_kwargs may stand there."
        if classes:
            return f"{where}{classes[-1]} has no option {option!r}. {_hint(option, _options_of(classes[-1]))}"
        return f"there is no option {option!r}. {_hint(option, _destinations(parser))}"
    if match := _UNKNOWN_CLASS.search(reason):
        names = [name for name in dir(import_module(match["module"])) if not name.startswith("_")]
        return f"{where}{match['module']} has no {match['name']!r}. {_hint(match['name'], names)}"
    return where + _CLASS_OR_TYPING.sub(r"\1", reason)


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip(" -"))


def _ancestors(lines: list[str], index: int) -> list[str]:
    """The lines that ``lines[index]`` is indented under, the outermost first."""
    ancestors: list[str] = []
    depth = _depth(lines[index])
    for line in reversed(lines[:index]):
        if _depth(line) < depth:
            depth = _depth(line)
            ancestors.insert(0, line)
    return ancestors


def _hint(option: str, options: Iterable[str]) -> str:
    known = sorted(set(options))
    near = get_close_matches(option, known, n=1) or get_close_matches(option.partition(".")[0], known, n=1)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"Known: {', '.join(known)}." if 0 < len(known) <= 20 else "See --help."


def _options_of(class_path: str) -> list[str]:
    from jsonargparse import ArgumentParser as ClassParser

    parser = ClassParser(exit_on_error=False)
    parser.add_class_arguments(locate(class_path), fail_untyped=False)
    return ["class_path", "init_args", *_destinations(parser)]


def _destinations(parser: ArgumentParser) -> list[str]:
    return [action.dest for action in parser._actions if action.dest not in ("help", "print_config")]
