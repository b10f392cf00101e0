"""YAML as a configuration needs it: no key twice, no alias that goes round or explodes, no bottomless nesting."""

from __future__ import annotations

from typing import Any, NoReturn

import yaml
from jsonargparse import get_loader, set_loader

__all__ = ["STRICT_YAML"]

STRICT_YAML = "strict_yaml"
_MAX_DEPTH = 100
_MAX_VALUES = 100_000  # with every alias written out, as it is when the configuration is copied or printed
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _load(text: str) -> Any:
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):  # flat: what composes deep nodes overflows the stack of C
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            _refuse(f"values are nested more than {_MAX_DEPTH} levels deep", event.start_mark)
    node = yaml.compose(text, Loader=_Loader)
    if node is not None:
        _count_values(node, counts={}, open_nodes=set())
    return get_loader("yaml")(text)


def _count_values(node: yaml.Node, *, counts: dict[int, int], open_nodes: set[int]) -> int:
    if id(node) in open_nodes:
        _refuse("an alias stands within what it stands for", node.start_mark)
    if id(node) not in counts:
        open_nodes.add(id(node))
        if isinstance(node, yaml.MappingNode):
            _refuse_duplicates(node)
            children = [child for pair in node.value for child in pair]
        else:
            children = node.value if isinstance(node, yaml.SequenceNode) else []
        count = 1 + sum(_count_values(child, counts=counts, open_nodes=open_nodes) for child in children)
        if count > _MAX_VALUES:
            _refuse(f"there are more than {_MAX_VALUES} values, with every alias written out", node.start_mark)
        counts[id(node)] = count
        open_nodes.remove(id(node))
    return counts[id(node)]


def _refuse_duplicates(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                _refuse(f"the key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)


def _refuse(problem: str, where: Any) -> NoReturn:
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=where)


set_loader(STRICT_YAML, _load, (yaml.YAMLError,))
