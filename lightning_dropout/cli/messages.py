"""One line from the many that jsonargparse says about a wrong option: the key, what was found, what to give."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from collections.abc import Iterable
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from pydoc import locate

from lightning_dropout.cli.errors import one_line
from lightning_dropout.cli.mismatch import mismatch

__all__ = ["explain"]

# What jsonargparse tried on the way to an error, and says each time.
_ASIDE = re.compile(r"^\s*(- )?(Expected a path but|Subclass types expect|a (class path|dict) |.* is not iterable$|$)")
_UNKNOWN_OPTION = re.compile(
    r"Group '(?P<group>[^']+)' does not accept option '(?P<member>[^']+)'"
    r"|(?:O|o)ption '(?P<option>[^']+)'(?: is not accepted)?$"
    r"|unrecognized arguments: --(?P<argument>[^\s=]+)"
)
_UNKNOWN_CLASS = re.compile(r"module '(?P<module>[^']+)' has no attribute '(?P<name>[^']+)'")
_NO_SUBCLASS = re.compile(r"Import path (?P<path>\S*) ?does not correspond to a subclass of (?P<base>\w+)")
_MISSING = re.compile(r"^the following arguments are required: (?P<keys>.*)$")
_NO_VALUE = re.compile(r"argument (?P<option>\S+): expected one argument")
_NO_MAPPING = re.compile(r"Unable to load config (?P<found>'.*'|\".*\")$", re.MULTILINE)
_NO_YAML = re.compile(
    r"^(?:Problems parsing config: )(?P<problem>.*?)(?: in \"[^\"]*\", (?P<place>(?:line|position) \d+).*)?$"
)
_NO_KEYS = re.compile(r"^Unexpected config: ?(?P<found>.*)$")
_LONGEST = 600


def explain(message: str, parser: ArgumentParser) -> str:
    """The reason in ``message``, an error of ``parser``, and what to do about it.

    A value that fits none of several types is told with all of them, one in the other; the reason is what stands
    deepest, and the lines above it say where.
    """
    text = _explain(message, parser)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _explain(message: str, parser: ArgumentParser) -> str:
    if about_file := _about_the_file(one_line(message)):
        return about_file
    lines = [line for line in message.splitlines() if not _ASIDE.match(line)] or [""]
    deepest = max(range(len(lines)), key=lambda i: (_depth(lines[i]), -i))
    reason = lines[deepest].lstrip(" -")
    above = _ancestors(lines, deepest)
    if lines[0] not in above and deepest > 0:  # the line that names the key is not always less indented than the next
        above.insert(0, lines[0])
    classes = [match[1] for line in above if (match := re.search(r"class_path '([^']+)'", line))]
    key = _path([match[1] for line in [*above, reason] if (match := re.search(r'Parser key "([^"]+)"', line))])
    where = f"{key}: " if key else ""
    if not above or not where:
        reason = one_line(message)
    reason = re.sub(r'^Parser key "[^"]+": ', "", reason)
    if match := _UNKNOWN_OPTION.search(reason):
        option = match["option"] or match["argument"] or f"{match['group']}.{match['member']}"
        if option == "class_path":
            return f"{where}beside class_path there is an unknown key. Only init_args and dict_kwargs may stand there."
        if classes:
            return f"{where}{classes[-1]} has no option {option!r}. {_hint(option, _options_of(classes[-1]))}"
        return f"there is no option {option!r}. {_hint(option, _destinations(parser))}"
    if match := _UNKNOWN_CLASS.search(reason):
        return f"{where}{match['module']} has no {match['name']!r}. {_hint(match['name'], _names_in(match['module']))}"
    if match := _NO_SUBCLASS.search(reason):
        return f"{where}{match['path'] or 'what is given'} is no {match['base']}. Give the import path of one."
    if not where and (match := _MISSING.search(reason)):
        keys = [key.partition(".")[2] for key in match["keys"].split(", ")]  # behind the name of the command
        return f"there is no {' and no '.join(keys)}. Give {' and '.join(f'`{key}:` in a file' for key in keys)}."
    if match := _NO_VALUE.search(reason):
        return f"{match['option']} is given no value."
    if told := mismatch(lines, deepest):
        return where + told
    if match := _NO_MAPPING.search(message):
        return f"{where}found {match['found']}. Give a mapping of its keys, or the path of a YAML file that holds them."
    return where + reason


def _about_the_file(message: str) -> str | None:
    if match := _NO_KEYS.match(message):
        found = match["found"][:80] or "nothing"
        return f"the file holds no keys, but {found}. Give keys such as `trainer:`, `model:` and `data:`."
    if match := _NO_YAML.match(message):
        place = f", {match['place']}" if match["place"] else ""
        return f"the file is not valid YAML{place}: {match['problem']}."
    return None


def _path(keys: list[str]) -> str:
    path = ""
    for key in keys:
        path = key if key.startswith(f"{path}.") or not path else f"{path}.{key}" if key != path else path
    return path


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())


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
    with suppress(Exception):  # a class that cannot be asked has no hint to give
        parser.add_class_arguments(locate(class_path), fail_untyped=False)
    return ["class_path", "init_args", *_destinations(parser)]


def _names_in(module: str) -> list[str]:
    with suppress(Exception):
        return [name for name in dir(import_module(module)) if not name.startswith("_")]
    return []


def _destinations(parser: ArgumentParser) -> list[str]:
    asides = ("help", "print_config", "print_shtab")
    return [action.dest for action in parser._actions if action.dest.rpartition(".")[2] not in asides]
