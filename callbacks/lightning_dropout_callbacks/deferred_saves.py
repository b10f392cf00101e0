"""Keep checkpoints out of accumulation windows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from lightning_dropout_callbacks.module_hook import replace_method
from lightning_dropout_callbacks.resume_point import has_open_window, is_validation_due

__all__ = ["DeferredSaves"]


class DeferredSaves:
    """Lets the callbacks that save checkpoints act where an accumulation window has ended, until it is released.

    They look at every batch whether it is time to save, so in a window they are just not asked. What they would have
    done after a validation inside a window, they do at its end.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._waiting: dict[Checkpoint, Callable[[], None]] = {}
        self._undo = ExitStack()
        for callback in trainer.checkpoint_callbacks:
            for hook, act in (("on_train_batch_end", self._after_batch), ("on_validation_end", self._after_validation)):
                act_instead = partial(act, callback, getattr(callback, hook))
                self._undo.callback(replace_method(callback, hook, act_instead))

    def catch_up(self) -> None:
        """Do what still waits."""
        while self._waiting:
            self._waiting.popitem()[1]()

    def release(self) -> None:
        """Let the callbacks act at any time."""
        self._waiting.clear()
        self._undo.close()

    def _after_batch(self, callback: Checkpoint, save: Callable[..., None], trainer: Trainer, *arguments: Any) -> None:
        if has_open_window(trainer):
            return
        late_save = self._waiting.pop(callback, None)
        if late_save is not None and not is_validation_due(trainer):
            late_save()
        save(trainer, *arguments)

    def _after_validation(
        self, callback: Checkpoint, save: Callable[..., None], trainer: Trainer, module: LightningModule
    ) -> None:
        if has_open_window(trainer):
            self._waiting[callback] = partial(save, trainer, module)
        else:
            save(trainer, module)
