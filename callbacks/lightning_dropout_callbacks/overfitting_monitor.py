"""Measure the gap between training and validation with dropout off on both sides."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.data import extract_batch_size
from torch.utils.data import DataLoader

from lightning_dropout.sites import find_sites
from lightning_dropout_callbacks.gap import compare
from lightning_dropout_callbacks.log_capture import gather
from lightning_dropout_callbacks.module_hook import run_after_hook
from lightning_dropout_callbacks.overfitting_history import OverfittingRecord
from lightning_dropout_callbacks.overfitting_plot import write_overfitting_plot
from lightning_dropout_callbacks.train_probe import TrainProbe
from lightning_dropout_callbacks.train_subset import Replay, full_batch_size, only_loader, train_subset
from lightning_dropout_callbacks.trials import Trials

__all__ = ["OverfittingMonitor"]


class OverfittingMonitor(Callback):
    """Log the gap between validation and training, with dropout off on both sides, at every validation.

    The loss logged in training is inflated by dropout, so its distance to the validation loss hides overfitting just
    where rates are high. This callback runs the module's own ``validation_step`` on a fixed part of the training data
    instead. For every metric ``val_<m>`` (or ``val/<m>``, ``<m>/val``) that the module logs in validation it logs
    ``overfit/train_<m>``, ``overfit/val_<m>`` and ``overfit/gap_<m>``, for ``EarlyStopping`` and ``ModelCheckpoint``
    to monitor. The gap is positive where the model does worse on validation data: val - train, or train - val for a
    metric that is better when higher. After every validation it draws ``overfitting.png`` in the log folder.

    The module is left as it was, bit for bit: weights, buffers, torchmetrics, lists, random numbers, logged values.
    What is logged is weighted by sample counts and equal on all ranks. What cannot be run on training batches is named
    once, with the reason, and training goes on.

    Args:
        num_train_batches: How many batches, of the validation loader's batch size, the fixed part has over all ranks.
            The cost is to read and evaluate them once per validation, for each validation loader.
        train_dataloader: Where to take it from, if not from the trainer's own loader.
        seed: Chooses the samples.
        num_workers: Worker processes that read them.
        plot: Draw ``overfitting.png``.

    Raises:
        ValueError: Here, if there are no batches to measure on. At setup, if the trainer has two of these callbacks.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> from lightning.pytorch.callbacks import EarlyStopping
        >>> stop = EarlyStopping("overfit/gap_loss", mode="min", patience=5)
        >>> trainer = Trainer(callbacks=[OverfittingMonitor(), stop], logger=False, enable_checkpointing=False)
    """

    def __init__(
        self,
        num_train_batches: int = 20,
        *,
        train_dataloader: Iterable[Any] | None = None,
        seed: int = 0,
        num_workers: int = 0,
        plot: bool = True,
    ) -> None:
        if not isinstance(num_train_batches, int) or num_train_batches < 1:
            raise ValueError(f"OverfittingMonitor(num_train_batches={num_train_batches}): give 1 or more batches.")
        self.num_train_batches = num_train_batches
        self.train_dataloader = train_dataloader
        self.seed = seed
        self.num_workers = num_workers
        self.plot = plot
        self._history: list[OverfittingRecord] = []
        self._start_anew()

    @property
    def state_key(self) -> str:
        """Tells histories on different parts of the data apart."""
        return self._generate_state_key(num_train_batches=self.num_train_batches, seed=self.seed)

    @property
    def history(self) -> list[OverfittingRecord]:
        """What was measured, oldest first; a resumed run continues it."""
        return list(self._history)

    def _start_anew(self) -> None:
        self._subset: DataLoader[Any] | Replay | None = None
        self._num_batches = 0
        self._probe: TrainProbe | None = None
        self._is_due = self._has_news = False
        self._num_val_samples: dict[int, int] = {}
        self._trials = Trials(
            "OverfittingMonitor", advice="Pass train_dataloader= with batches like those of validation."
        )
        self._folder: str | None = None
        self._unhook: Callable[[], None] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a second monitor; forget the data of the fit before."""
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        if sum(isinstance(callback, OverfittingMonitor) for callback in callbacks) > 1:
            raise ValueError("The trainer has two OverfittingMonitor callbacks, which log to the same names. Keep one.")
        self._start_anew()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say at once if there will be nothing to measure."""
        is_trial = bool(trainer.fast_dev_run)  # type: ignore[attr-defined]
        self._folder = None if is_trial else trainer.log_dir or trainer.default_root_dir  # a broadcast, so on all ranks
        if not trainer.enable_validation:
            name = type(pl_module).__name__
            self._trials.name("measure a gap", f"{name} has no validation_step, or the trainer no validation data")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Get ready for the first batch, before which every hook that prepares a validation has run."""
        self._probe, self._num_val_samples = None, {}
        self._is_due = trainer.state.fn == "fit" and not trainer.sanity_checking

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int | None = None,
    ) -> None:
        """Before the first batch, run ``validation_step`` on the training subset."""
        if self._is_due:
            self._is_due = False
            take = partial(self._take_subset, trainer, batch)
            if self._trials.attempt("take a fixed part of the training data", take):
                # An index comes here only where validation_step gets one.
                loaders = [None] if dataloader_idx is None else range(len(trainer.num_val_batches))
                self._run_steps(trainer, pl_module, loaders)
        if self._probe is not None and trainer.world_size > 1:
            loader = dataloader_idx or 0
            self._num_val_samples[loader] = self._num_val_samples.get(loader, 0) + _num_samples(batch)

    def _take_subset(self, trainer: Trainer, batch: Any) -> None:
        if self._subset is not None:
            return
        shares = trainer.distributed_sampler_kwargs or {"rank": 0, "num_replicas": 1}
        limit = int(trainer.fast_dev_run) or self.num_train_batches  # type: ignore[attr-defined]
        self._subset = train_subset(
            only_loader(trainer.train_dataloader) if self.train_dataloader is None else self.train_dataloader,
            num_batches=min(self.num_train_batches, limit),
            batch_size=full_batch_size(trainer.val_dataloaders) or _num_samples(batch),
            seed=self.seed,
            num_workers=self.num_workers,
            rank=shares["rank"],
            num_ranks=shares["num_replicas"],
        )
        if isinstance(self._subset, Replay) and self.train_dataloader is None:
            rank_zero_info(
                f"OverfittingMonitor measures on the first {len(self._subset)} batches of a fresh iterator over the "
                "training data, which has no indices to choose from. Pass train_dataloader= to measure on others."
            )

    def _run_steps(self, trainer: Trainer, pl_module: LightningModule, loaders: Iterable[int | None]) -> None:
        assert self._subset is not None
        if self._num_batches == 0:
            self._num_batches = min(gather(len(self._subset)))
        self._probe = TrainProbe(trainer, pl_module, seed=self.seed)
        for loader in loaders:
            what = "run validation_step on training batches" + (f" as loader {loader}" if loader else "")
            steps = partial(self._probe.run_steps, self._subset, self._num_batches, dataloader_idx=loader)
            self._trials.attempt(what, steps)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Run the module's hook on the training side, and arrange to compare when it has run on the other."""
        if self._probe is None:
            return
        self._trials.attempt("run on_validation_epoch_end on training batches", self._probe.run_epoch_end)
        # The module's own hook comes after those of callbacks, and EarlyStopping reads what is logged until then.
        self._unhook = run_after_hook(pl_module, "on_validation_epoch_end", lambda: self._compare(trainer, pl_module))

    def _compare(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._probe is not None
        values = compare(self._probe.logged, trainer.callback_metrics, self._num_val_samples)
        self._probe = None
        if not values:
            if not self._trials.has_failures:
                self._trials.name("compare metrics", f"{type(pl_module).__name__} logs none in validation")
            return
        pl_module.log_dict(values, sync_dist=True, add_dataloader_idx=False, batch_size=1)
        groups = find_sites(pl_module).groups()
        rates = {name: sum(site.rate for site in group) / len(group) for name, group in groups.items()}
        record = OverfittingRecord(trainer.global_step, trainer.current_epoch, values, rates)
        # Going back, to a checkpoint or to a new fit, undoes the steps after it.
        self._history = [*(old for old in self._history if old.step < record.step), record]
        self._has_news = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the picture anew."""
        if not (self._has_news and self.plot and self._folder and trainer.is_global_zero):
            return
        self._has_news = False
        try:
            write_overfitting_plot(self._history, Path(self._folder) / "overfitting.png")
        except ImportError:
            self._folder = None
            rank_zero_info("No overfitting.png without matplotlib: pip install 'lightning-dropout[recipes]'")
        except Exception as error:
            self._folder = None
            self._trials.name("draw overfitting.png", f"{type(error).__name__}: {error}")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave nothing on the module."""
        if self._unhook is not None:
            self._unhook()
        self._probe = self._unhook = None

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let go of the data."""
        self._start_anew()

    def state_dict(self) -> dict[str, Any]:
        """The history, in plain types."""
        return {"history": [record._asdict() for record in self._history]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the history."""
        self._history = [OverfittingRecord(**record) for record in state_dict["history"]]


def _num_samples(batch: Any) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ambiguous batches, whose size the module may tell when it logs
        try:
            return extract_batch_size(batch)
        except MisconfigurationException:
            return 1
