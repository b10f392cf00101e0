"""Act around a method of a module or a callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning.pytorch import LightningModule

__all__ = ["replace_method", "run_after_hook"]


def replace_method(owner: object, name: str, method: Callable[..., Any]) -> Callable[[], None]:
    """Put ``method`` in place of ``owner``'s own; returns a way to undo it."""
    space = vars(owner)
    before = space.get(name)

    def undo() -> None:
        if before is None:
            space.pop(name, None)
        else:
            space[name] = before

    space[name] = method
    return undo


def run_after_hook(module: LightningModule, hook: str, action: Callable[[], None]) -> Callable[[], None]:
    """Call ``action`` after the next call of ``module``'s ``hook``, which takes no arguments; returns a way to undo it.

    Callbacks are called before the module, so this is how one of them sees what the module logs in the same hook, and
    can log itself.
    """
    original = getattr(module, hook)

    def run() -> None:
        undo()
        original()
        action()

    undo = replace_method(module, hook, run)
    return undo
