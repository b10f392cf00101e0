"""The training data's side of the gap."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.data import extract_batch_size
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from lightning_dropout.sites import find_sites
from lightning_dropout_callbacks.log_capture import LogCapture, gather
from lightning_dropout_callbacks.random_transform import transforms_at_random
from lightning_dropout_callbacks.train_probe import TrainProbe
from lightning_dropout_callbacks.train_subset import Replay, first_loader, full_batch_size, only_loader, train_subset
from lightning_dropout_callbacks.trials import Trials

__all__ = ["TrainSide", "num_samples"]


class TrainSide:
    """A fixed part of the training data, and what a module logs on it: with dropout off, and once more with it on.

    Args:
        trials: Names what does not work; training goes on without it.
        num_batches: Number of batches over all ranks, of the validation loader's batch size.
        dataloader: Where to take them from, if not from the trainer's own loader.
        seed: Chooses the samples, and the dropout masks.
        num_workers: Worker processes that read them.
        has_noise: Run them with dropout on, too.
    """

    def __init__(
        self,
        trials: Trials,
        *,
        num_batches: int,
        dataloader: Iterable[Any] | None,
        seed: int,
        num_workers: int,
        has_noise: bool,
    ) -> None:
        #: What the module logged in the validation that runs, with dropout off and on; None if that was not run.
        self.logged: LogCapture | None = None
        self.noisy: LogCapture | None = None
        #: How many batches were run so far on this rank.
        self.num_runs = 0
        self._trials, self._seed, self._num_workers, self._has_noise = trials, seed, num_workers, has_noise
        self._limit, self._dataloader = num_batches, dataloader
        self._subset: DataLoader[Any] | Replay | None = None
        self._num_batches = 0
        self._in_training: Collection[nn.Module] | None = None
        self._probes: dict[str, TrainProbe] = {}

    def forget(self) -> None:
        """End the measurement of one validation."""
        self.logged = self.noisy = None
        self._probes = {}

    def note_training(self, module: LightningModule) -> None:
        """Remember what drops in training, such as not the frozen parts that the module keeps in eval mode."""
        self._in_training = {part for part in module.modules() if part.training}

    def measure(
        self, trainer: Trainer, module: LightningModule, first_batch: Any, loaders: Sequence[int | None]
    ) -> None:
        """Run ``validation_step`` as for each of the validation loaders, of which ``first_batch`` is to come."""
        take = partial(self._take_subset, trainer, first_batch)
        if not self._trials.attempt("take a fixed part of the training data", take):
            return
        assert self._subset is not None
        if self._num_batches == 0:
            self._num_batches = min(gather(len(self._subset)))
            self._trials.attempt("look for random transforms", partial(self._warn_of_transforms, trainer))
        probe = TrainProbe(trainer, module, seed=self._seed)
        self.logged = probe.logged
        if self._run(probe, "on training batches", loaders) and self._has_noise:
            self._measure_noise(trainer, module, loaders)

    def _measure_noise(self, trainer: Trainer, module: LightningModule, loaders: Sequence[int | None]) -> None:
        sites = find_sites(module)
        active = [site for site in sites if site.rate > 0.0]
        owners = [site.module for site in active] + [twin for site in active for twin, _ in site.twins]
        dropping = {owner for owner in owners if self._in_training is None or owner in self._in_training}
        if any(gather(bool(dropping))):
            probe = TrainProbe(trainer, module, seed=self._seed, switched_on=dropping)
            self.noisy = probe.logged
            self._run(probe, "with dropout on", loaders)
        elif len(sites) > 0:
            self.noisy = self.logged  # nothing drops

    def _run(self, probe: TrainProbe, how: str, loaders: Sequence[int | None]) -> bool:
        assert self._subset is not None
        self._probes[how] = probe
        works = True
        for loader in loaders:
            what = f"run validation_step {how}" + (f" as loader {loader}" if loader else "")
            steps = partial(probe.run_steps, self._subset, self._num_batches, dataloader_idx=loader)
            works &= self._trials.attempt(what, steps)
            self.num_runs += self._num_batches
        return works

    def end_epoch(self) -> None:
        """Run the module's ``on_validation_epoch_end`` on what its steps have gathered."""
        for how, probe in self._probes.items():
            self._trials.attempt(f"run on_validation_epoch_end {how}", probe.run_epoch_end)

    def _take_subset(self, trainer: Trainer, batch: Any) -> None:
        if self._subset is not None:
            return
        shares = trainer.distributed_sampler_kwargs or {"rank": 0, "num_replicas": 1}
        limit = int(trainer.fast_dev_run) or self._limit  # type: ignore[attr-defined]
        self._subset = train_subset(
            self._source(trainer),
            num_batches=min(self._limit, limit),
            batch_size=full_batch_size(trainer.val_dataloaders) or num_samples(batch),
            seed=self._seed,
            num_workers=self._num_workers,
            rank=shares["rank"],
            num_ranks=shares["num_replicas"],
        )
        if isinstance(self._subset, Replay) and self._dataloader is None:
            rank_zero_info(
                f"OverfittingMonitor measures on the first {len(self._subset)} batches of a fresh iterator over the "
                "training data, which has no indices to choose from. Pass train_dataloader= to measure on others."
            )

    def _source(self, trainer: Trainer) -> Any:
        return only_loader(trainer.train_dataloader) if self._dataloader is None else self._dataloader

    def _warn_of_transforms(self, trainer: Trainer) -> None:
        if not (isinstance(self._subset, DataLoader) and transforms_at_random(self._source(trainer))):
            return
        val = first_loader(trainer.val_dataloaders)
        if not isinstance(val, DataLoader) or isinstance(val.dataset, IterableDataset) or transforms_at_random(val):
            return
        rank_zero_warn(
            "OverfittingMonitor read a training sample twice and got two different ones: the training data is "
            "transformed at random, and the validation data is not. The gap would be that of unlike data. Pass "
            "train_dataloader= with training samples that are prepared as those of validation are."
        )


def num_samples(batch: Any) -> int:
    """The number of samples in a batch, 1 if it does not say."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ambiguous batches, whose size the module may tell when it logs
        try:
            return extract_batch_size(batch)
        except MisconfigurationException:
            return 1
