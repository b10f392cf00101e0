"""A DataLoader that continues in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

__all__ = ["ResumableLoader"]


class ResumableLoader(DataLoader[Any]):
    """A DataLoader that a resumed Trainer continues at the batch after the last one consumed.

    The sampler's order must depend on nothing but the epoch that ``set_epoch`` told it, and the loader must not be
    iterated twice at a time. Where the Trainer is known, its own count of batches says where to go on: it is right also
    in a checkpoint that was written while a batch was in the works, and it comes in time where the module asked for the
    number of steps before the checkpoint was read, as for a learning rate schedule. Elsewhere the position is saved
    with the loader. It belongs to its epoch: a checkpoint written after the last batch of one says nothing about the
    next, which is then not skipped.

    Args:
        *args: As for a DataLoader.
        trainer: The Trainer that trains on it, if there is one.
        **kwargs: As for a DataLoader.
    """

    _position: tuple[int, int] = (0, 0)
    _resume_at: tuple[int, int] | None = None

    def __init__(self, *args: Any, trainer: Trainer | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.trainer = trainer

    def state_dict(self) -> dict[str, int]:
        """The epoch and the number of its batches that were consumed, the same on all ranks."""
        epoch, num_batches = self._position
        return {"epoch": epoch, "num_batches": num_batches}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next iteration, if it is in the saved epoch, begin after the batches consumed."""
        self._resume_at = state["epoch"], state["num_batches"]

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # A generator, so that nothing is drawn before the Trainer has set the epoch.
        epoch = getattr(self.sampler, "epoch", 0)
        num_skipped = self._num_consumed(epoch)
        for index, batch in enumerate(super().__iter__()):
            if index < num_skipped:
                continue
            self._position = epoch, index + 1
            yield batch

    def _num_consumed(self, epoch: int) -> int:
        """How many batches of the epoch are not to be seen again."""
        saved, self._resume_at = self._resume_at, None
        trainer = self.trainer
        if trainer is not None and trainer.training and trainer.train_dataloader is self:
            return trainer.fit_loop.epoch_loop.batch_progress.current.ready
        return saved[1] if saved is not None and saved[0] == epoch else 0
