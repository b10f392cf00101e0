"""What a model has to know about its data, taken from the data where the configuration does not say it."""

from __future__ import annotations

import re
from functools import partial
from pydoc import locate
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from lightning_dropout.cli.errors import UserError

__all__ = ["DataLinks"]

# The property of the data that answers an argument of a network, by the name of the argument.
_SOURCES = {
    "vocab_size": ("vocab_size",),
    "num_classes": ("num_classes",),
    "num_inputs": ("num_inputs",),
    "num_outputs": ("num_outputs", "num_classes"),
    "num_channels": ("num_channels",),
    "in_channels": ("num_channels",),
    "image_size": ("image_size",),
    "padding_id": ("padding_id",),
}
# Those that a network can do without, so that nobody complains when they are missing.
_OPTIONAL = (
    "network.init_args.vocab_size",
    "network.init_args.image_size",
    "network.init_args.encoder.padding_id",
)
_REQUIRED = re.compile(r"^model(?P<path>(\.\w+)*): .* are required: (?P<names>[\w, ]+)$")


class DataLinks:
    """Links from ``data`` to ``model``, made only where they are needed: models without the key stumble over a link.

    Args:
        parsers: Those of the sub-commands, which all get the links.
    """

    def __init__(self, parsers: list[ArgumentParser]) -> None:
        self._parsers = parsers
        self._linked: set[str] = set()

    def resolve(self, error: UserError) -> bool:
        """Link the arguments that ``error`` calls required; False if it is about something else."""
        match = _REQUIRED.match(str(error))
        names = match["names"].split(", ") if match else []
        if match is None or not set(names) <= set(_SOURCES):
            return False
        path = match["path"].removeprefix(".").replace("network", "network.init_args")
        targets = [f"{path}.{name}".lstrip(".") for name in names]
        if path.endswith(".patches"):  # they have a default for photographs, but the data knows
            targets.append(f"{path}.in_channels")
        new = [target for target in targets if target not in self._linked]
        for target in new:
            self._link(target)
        return bool(new)

    def complete(self, config: Namespace) -> None:
        """Link what ``config`` leaves open."""
        for target in _OPTIONAL:
            known = self.answers(target, config)
            if known and config.get(f"model.init_args.{target}", default=0) is None:
                self._link(target)

    def unanswered(self, config: Namespace) -> bool:
        """Whether there is a link that the data of ``config`` says nothing about."""
        return not all(self.answers(target, config) for target in self._linked)

    def answers(self, target: str, config: Namespace) -> bool:
        """Whether the class of the data in ``config`` has a property for ``target``."""
        data = locate(config.get("data.class_path") or "")
        return any(hasattr(data, name) for name in _SOURCES[target.rpartition(".")[2]])

    def _link(self, target: str) -> None:
        self._linked.add(target)
        for parser in self._parsers:
            parser.link_arguments(
                "data", f"model.init_args.{target}", compute_fn=partial(_ask, target), apply_on="instantiate"
            )


def _ask(target: str, data: Any) -> Any:
    names = _SOURCES[target.rpartition(".")[2]]
    value = next(getattr(data, name) for name in names if hasattr(type(data), name))
    if target.endswith("patches.image_size"):
        height, width = value
        if height != width:
            raise UserError(f"patches need square images, and these are {height}x{width}. Give --data.image_size.")
        return height
    return value
