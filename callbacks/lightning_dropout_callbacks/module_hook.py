"""Act right after a hook of a module."""

from __future__ import annotations

from collections.abc import Callable

from lightning.pytorch import LightningModule

__all__ = ["run_after_hook"]


def run_after_hook(module: LightningModule, hook: str, action: Callable[[], None]) -> Callable[[], None]:
    """Call ``action`` after the next call of ``module``'s ``hook``, which takes no arguments; returns a way to undo it.

    Callbacks are called before the module, so this is how one of them sees what the module logs in the same hook, and
    can log itself.
    """
    space, original = vars(module), getattr(module, hook)
    before = space.get(hook)

    def undo() -> None:
        if before is None:
            space.pop(hook, None)
        else:
            space[hook] = before

    def run() -> None:
        undo()
        original()
        action()

    space[hook] = run
    return undo
