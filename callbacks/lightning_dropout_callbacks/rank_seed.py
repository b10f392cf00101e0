"""Make the randomness of every training step a function of the seed, the batch and the data-parallel rank."""

from __future__ import annotations

import os
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_dropout_callbacks.deferred_saves import DeferredSaves
from lightning_dropout_callbacks.lean import LeanCallback
from lightning_dropout_callbacks.resume_point import continue_run, correct_logged_step, count_whole_work_only

__all__ = ["RankSeed", "step_seed"]

_MASK = 2**64 - 1


class RankSeed(LeanCallback):
    """Seed the device's random numbers before every training batch, differently on every data-parallel rank.

    ``seed_everything`` gives all ranks the same seed, and with it the same dropout masks; and a checkpoint holds no
    state of the generators, so a resumed run draws others. With this callback a step draws from (seed, number of the
    batch, rank): different on all data-parallel ranks, equal on the tensor-parallel replicas of one, equal again
    after resume. It governs *all* randomness of the device in the step: dropout, noise, sampling.

    Initial weights and what is drawn outside of the step stay as they are: only the generator of the device is seeded,
    and on the CPU, whose generator shuffles data too, it gets its state back after the batch. Data that is shuffled by
    that generator gets an order of its own, a function of (seed, epoch).

    With the data modules of this package, or other loaders that save their position, a run resumed from a checkpoint
    is then the run that was not interrupted, bit for bit. For this, a checkpoint counts as done what is done: a batch
    or a validation in the works begins again. No checkpoint holds gradients, so within an accumulation window
    checkpoint callbacks wait for its end; what they then save has made one optimizer step more than what was
    validated, unless validations fall on the ends of windows. What is saved in a window after all, by an exception or
    by ``trainer.save_checkpoint``, begins again with the window, whose batches running statistics then see twice. One
    thing stays: with ``max_steps``, Lightning 2.6 counts an epoch twice after a save at its very end.

    Args:
        seed: By default that of ``seed_everything``, else 0.

    Raises:
        ValueError: If the seed is no whole number from 0 on.

    Example:
        >>> trainer = Trainer(callbacks=[RankSeed(42)], logger=False, enable_checkpointing=False)
    """

    def __init__(self, seed: int | None = None) -> None:
        if seed is not None and (not isinstance(seed, int) or seed < 0):
            raise ValueError(f"RankSeed(seed={seed!r}): give a whole number from 0 on.")
        self.seed = seed
        self._outside: Tensor | None = None
        self._is_validating = self._is_resumed = False
        self._saves: DeferredSaves | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the generator and the rank; give shuffled data an order of its own."""
        self._seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if self.seed is None else self.seed
        self._rank = _data_parallel_rank(trainer, pl_module)
        self._seeds: dict[int, int] = {}
        self._generator = _generator(pl_module.device)
        self._is_shared = self._generator.device.type == "cpu"
        self._batches = trainer.fit_loop.epoch_loop.batch_progress.total
        self._is_validating = False
        self._saves = DeferredSaves(trainer)
        self._is_resumed = trainer.fit_loop.is_resuming
        loaders: Any = getattr(trainer.fit_loop, "_combined_loader", None)
        for loader in loaders.flattened if loaders is not None else ():
            _shuffle_by_epoch(getattr(loader, "sampler", None), trainer, self._seed)
        continue_run(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed the step."""
        if self._is_shared:
            self._outside = self._generator.get_state()
        number = self._batches.completed
        if number not in self._seeds:  # many at a time take less than one at a time
            self._seeds = {n: step_seed(self._seed, n, self._rank) for n in range(number, number + 100)}
        self._generator.manual_seed(self._seeds[number])
        if self._is_resumed:
            self._is_resumed = False
            correct_logged_step(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Leave the random numbers outside of the step as they would be."""
        self._restore()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that a validation is not finished."""
        self._is_validating = trainer.state.fn == "fit" and not trainer.sanity_checking

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that the validation is finished."""
        self._is_validating = False

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Let a run that is resumed begin again with what is not finished now."""
        count_whole_work_only(checkpoint, trainer, is_validating=self._is_validating)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what waits, should the fit have stopped within an accumulation window."""
        assert self._saves is not None
        self._saves.catch_up()
        self._release()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the random numbers outside of the step as they would be, and let checkpoints be saved now."""
        self._release()

    def _release(self) -> None:
        self._restore()
        if self._saves is not None:
            self._saves.release()
            self._saves = None

    def _restore(self) -> None:
        if self._outside is not None:
            self._generator.set_state(self._outside)
            self._outside = None


def step_seed(seed: int, batch: int, rank: int) -> int:
    """A 63-bit seed for one training step on one rank.

    Example:
        >>> step_seed(0, 7, rank=0) == step_seed(0, 7, rank=1)
        False
    """
    return _mixed(_mixed(_mixed(seed) ^ batch) ^ rank) >> 1


def _mixed(number: int) -> int:
    """64 bits, all of which depend on all bits of ``number`` (the finalizer of splitmix64, Steele et al. 2014)."""
    number = (number + 0x9E3779B97F4A7C15) & _MASK
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MASK
    return number ^ (number >> 31)


def _data_parallel_rank(trainer: Trainer, pl_module: LightningModule) -> int:
    mesh: Any = pl_module.device_mesh
    if mesh is None:
        return trainer.global_rank
    return int(mesh["data_parallel"].get_local_rank())


def _generator(device: torch.device) -> torch.Generator:
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        return torch.cuda.default_generators[index]
    return torch.default_generator


def _shuffle_by_epoch(sampler: Any, trainer: Trainer, seed: int) -> None:
    """Let a sampler that draws from the global generator draw its order from (seed, epoch)."""
    cls = type(sampler)
    if cls not in (torch.utils.data.RandomSampler, torch.utils.data.SubsetRandomSampler) or sampler.generator:
        return

    def iterate(self: Any) -> Any:
        self.generator = torch.Generator().manual_seed(step_seed(seed, trainer.current_epoch, rank=-1))
        yield from cls.__iter__(self)

    sampler.__class__ = type(cls.__name__, (cls,), {"__iter__": iterate, "__module__": cls.__module__})
