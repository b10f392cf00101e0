"""From which batch on a checkpoint lets a run go on."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer

__all__ = ["continue_run", "correct_logged_step", "count_whole_work_only", "has_open_window", "is_validation_due"]


def count_whole_work_only(checkpoint: dict[str, Any], trainer: Trainer, *, is_validating: bool) -> None:
    """Let ``checkpoint`` count as done what is done, so that the rest is done again, from its beginning.

    Lightning counts a batch in the works and goes on behind it, takes a validation that is due for done, and one that
    was interrupted for done with the batches it had seen. Gradients are in no checkpoint, so the batches of an
    accumulation window without an optimizer step count as not done either.
    """
    loops = checkpoint["loops"]["fit_loop"]
    batches, val_batches = loops["epoch_loop.batch_progress"], loops["epoch_loop.val_loop.batch_progress"]
    current = batches["current"]
    is_window_open = has_open_window(trainer)
    if is_window_open or current["ready"] > current["processed"]:
        num_undone = current["processed"] % trainer.accumulate_grad_batches if is_window_open else 0
        for counts in (batches["total"], current):
            _count(counts, counts["processed"] - num_undone)
        batches["is_last_batch"] = False
    elif is_validating or (current["completed"] < current["processed"] and is_validation_due(trainer)):
        for counts in (batches["total"], current):
            _count(counts, counts["processed"])
        num_seen = val_batches["current"]["completed"] if is_validating else 0
        for counts, num_done in (
            (val_batches["total"], val_batches["total"]["completed"] - num_seen),
            (val_batches["current"], 0),
        ):
            _count(counts, num_done)
            counts["ready"] += 1  # as Lightning knows a validation to be finished
            counts["started"] += 1


def continue_run(trainer: Trainer) -> None:
    """Take up what was saved, at train start, where Lightning has not."""
    loop: Any = trainer.fit_loop
    counts = loop.epoch_loop.val_loop.batch_progress.total
    counts.ready = counts.started = counts.processed = counts.completed
    # Loaders that were made before the checkpoint was read, for the number of steps, never got their states.
    is_late = loop.restarting and bool(loop._combined_loader_states_to_load)
    loop._load_combined_loader_states()
    has_workers = any(getattr(loader, "num_workers", 0) for loader in loop._combined_loader.flattened)
    if is_late or has_workers:
        iter(loop._data_fetcher)  # workers have drawn the order of the first epoch already


def correct_logged_step(trainer: Trainer) -> None:
    """Let logging go on, at the first batch, at the step it was at; Lightning may be off by one."""
    loop = trainer.fit_loop.epoch_loop
    is_automatic = trainer.lightning_module.automatic_optimization
    loop._batches_that_stepped = loop.global_step if is_automatic else loop.batch_progress.total.completed


def has_open_window(trainer: Trainer) -> bool:
    """Whether batches were accumulated that no optimizer step has used yet; the batch in the works does not count."""
    batches: Any = trainer.fit_loop.epoch_loop.batch_progress
    num_done = batches.current.processed
    is_epoch_over = num_done == batches.current.ready and (
        batches.is_last_batch or num_done == trainer.num_training_batches
    )
    return num_done % trainer.accumulate_grad_batches != 0 and not is_epoch_over


def is_validation_due(trainer: Trainer) -> bool:
    """Whether a validation follows the batch that is being finished."""
    fetcher = trainer.fit_loop._data_fetcher
    return fetcher is not None and trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher)


def _count(counts: dict[str, int], number: int) -> None:
    counts.update(dict.fromkeys(counts, number))
