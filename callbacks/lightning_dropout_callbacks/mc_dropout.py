"""Monte Carlo dropout in the predict loop."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from random import Random
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from lightning_dropout.uncertainty import MCPrediction, Task, check_num_samples, mc_predict
from lightning_dropout_callbacks.lean import LeanCallback

__all__ = ["MCDropout"]


class MCDropout(LeanCallback):
    """Let ``trainer.predict`` return predictions with an uncertainty, from several dropout masks.

    Every batch goes through the module's own ``predict_step``, which has to return logits or numbers, with dropout on
    and all else in eval mode; what ``predict`` returns and writers receive is an ``MCPrediction``. Copies of the batch
    that differ only in their masks run as one, so ``predict_step`` sees more rows than the loader gave.

    Masks follow from the seed of the run, the rank and the batch, so ranks draw different samples under one seed. The
    random state is otherwise left alone, and outside ``predict_step`` the model is in eval mode as ever.

    Args:
        num_samples: Number of masks.
        task: ``"classification"`` if outputs are logits, classes last; ``"regression"`` if they are numbers.
        max_batch: Most rows that run at once, as memory allows; by default all copies of a batch do.

    Raises:
        ValueError: Here, if an argument is out of range. In predict, if no dropout site has a rate above 0, or if
            what ``predict_step`` returns does not fit its batch.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> trainer = Trainer(callbacks=[MCDropout(num_samples=30)], logger=False, enable_checkpointing=False)
    """

    def __init__(self, num_samples: int = 20, *, task: Task = "classification", max_batch: int | None = None) -> None:
        check_num_samples("MCDropout", num_samples, max_batch)
        if task not in ("classification", "regression"):
            raise ValueError(f"MCDropout(task={task!r}): task is 'classification' or 'regression'.")
        self.num_samples = num_samples
        self.task: Task = task
        self.max_batch = max_batch
        self._undo: Callable[[], None] | None = None

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the sampling in place of ``predict_step``."""
        predict_step = pl_module.predict_step
        run_seed = int(torch.empty((), dtype=torch.int64).random_().item())
        rank = (trainer.distributed_sampler_kwargs or {}).get("rank", 0)  # tensor-parallel ranks need equal masks
        num_batches = 0

        @wraps(predict_step)  # Lightning reads from the signature which indices to pass
        def sample(batch: Any, *args: Any, **kwargs: Any) -> MCPrediction:
            nonlocal num_batches
            num_batches += 1
            device = pl_module.device
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                torch.manual_seed(Random(f"{run_seed} {rank} {num_batches}").getrandbits(63))
                return mc_predict(
                    pl_module,
                    batch,
                    self.num_samples,
                    task=self.task,
                    max_batch=self.max_batch,
                    forward=lambda batch: predict_step(batch, *args, **kwargs),
                )

        space = vars(pl_module)
        before = space.get("predict_step")

        def undo() -> None:
            if before is None:
                space.pop("predict_step", None)
            else:
                space["predict_step"] = before

        self._undo, space["predict_step"] = undo, sample

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the module its ``predict_step`` back."""
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the module its ``predict_step`` back."""
        self._restore()

    def _restore(self) -> None:
        if self._undo is not None:
            self._undo()
            self._undo = None
