"""``run SCRIPT.py``: a training script under the devices, the strategy and the precision that were typed."""

from __future__ import annotations

import inspect
import runpy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning_dropout.cli.errors import UserError, one_line, refused_by_trainer
from lightning_dropout.cli.process import environment

__all__ = ["run_script"]


def run_script(path: Path, arguments: Sequence[str], options: Mapping[str, str]) -> int:
    """Run the script as Python would, with ``options`` as what its Trainer takes where the script says nothing.

    Lightning reads them from variables. Processes that its launcher starts inherit these and run the plain script, so
    that two devices are one run of two ranks.

    Raises:
        UserError: If its Trainer cannot be built under ``options``.
    """
    with (
        environment({f"PL_TRAINER_{name.upper()}": value for name, value in options.items()}),
        _command_line(path, arguments),
        _TrainerWatch(path.name, options).watching(),
    ):
        runpy.run_path(str(path), run_name="__main__")
    return 0


@contextmanager
def _command_line(path: Path, arguments: Sequence[str]) -> Iterator[None]:
    argv, folders = sys.argv, sys.path
    sys.argv, sys.path = [str(path), *arguments], [str(path.resolve().parent), *sys.path]
    try:
        yield
    finally:
        sys.argv, sys.path = argv, folders


class _TrainerWatch:
    """Says where ``options`` have no effect: what the script says wins, or nothing reads them."""

    def __init__(self, script: str, options: Mapping[str, str]) -> None:
        self.script = script
        self.options = options
        self._typed = {name: f"--{name.replace('_', '-')} {value}" for name, value in options.items()}
        self._warnings: set[str] = set()
        self._built = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch every Trainer that is built, of both packages that have one."""
        packages = ("lightning.pytorch", "pytorch_lightning")
        trainers = [import_module(name).Trainer for name in packages if self.options and find_spec(name)]
        before = [trainer.__init__ for trainer in trainers]
        for trainer in trainers:
            trainer.__init__ = self._watched(trainer.__init__)
        try:
            yield
        finally:
            for trainer, build in zip(trainers, before, strict=True):
                trainer.__init__ = build
        if self.options and not self._built:
            self._warn(f"{self.script} built no Lightning Trainer, so {' '.join(self._typed.values())} had no effect.")

    def _watched(self, build: Callable[..., None]) -> Callable[..., None]:
        @wraps(build)
        def init(trainer: Any, *args: Any, **kwargs: Any) -> None:
            self._built = True
            self._compare(type(trainer).__name__, inspect.signature(build).bind(trainer, *args, **kwargs).arguments)
            try:
                build(trainer, *args, **kwargs)
            except Exception as error:
                if not refused_by_trainer(error):
                    raise
                raise UserError(f"{self.script} under {' '.join(self._typed.values())}: {one_line(error)}") from error

        return init

    def _compare(self, kind: str, given: Mapping[str, Any]) -> None:
        for name, value in self.options.items():
            typed = self._typed[name]
            if name not in given and kind != "Trainer":
                self._warn(f"{self.script} builds a {kind}, which does not read {typed}. Give it {name}= there.")
            elif str(given.get(name, value)) != value:
                self._warn(
                    f"{self.script} builds a {kind} with {name}={given[name]!r}, which wins over {typed}. "
                    "Take it out of the script."
                )

    def _warn(self, message: str) -> None:
        from lightning.pytorch.utilities import rank_zero_only

        if message not in self._warnings:
            self._warnings.add(message)
            rank_zero_only(print)(f"lightning run: {message}", file=sys.stderr)
