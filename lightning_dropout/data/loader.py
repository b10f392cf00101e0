"""A DataLoader that continues in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

__all__ = ["ResumableLoader"]


class ResumableLoader(DataLoader[Any]):
    """A DataLoader that the Trainer saves in checkpoints and continues at the batch after the last one consumed.

    The sampler's order must depend on nothing but the epoch that ``set_epoch`` told it, and the loader must not be
    iterated twice at a time. The position belongs to its epoch: a checkpoint written after the last batch of one
    says nothing about the next, which is then not skipped.
    """

    _position: tuple[int, int] = (0, 0)
    _resume_at: tuple[int, int] | None = None

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
        resume_epoch, num_skipped = self._resume_at or (epoch, 0)
        self._resume_at = None
        for index, batch in enumerate(super().__iter__()):
            if epoch == resume_epoch and index < num_skipped:
                continue
            self._position = epoch, index + 1
            yield batch
