"""Measure the gap between training and validation with dropout off on both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from lightning_dropout.metrics import FitJudge
from lightning_dropout.metrics.fit_state import FitLabel
from lightning_dropout.sites import find_sites
from lightning_dropout_callbacks.gap import compare
from lightning_dropout_callbacks.lean import LeanCallback
from lightning_dropout_callbacks.mode_guard import ModeGuard
from lightning_dropout_callbacks.module_hook import run_after_hook
from lightning_dropout_callbacks.overfitting_files import OverfittingFiles
from lightning_dropout_callbacks.overfitting_history import OverfittingRecord, extended
from lightning_dropout_callbacks.overfitting_verdict import STATES, find_onset, gap_slopes, judge_state, judged_loss
from lightning_dropout_callbacks.run_configuration import describe_run
from lightning_dropout_callbacks.run_page import RunPage
from lightning_dropout_callbacks.stopwatch import Stopwatch
from lightning_dropout_callbacks.train_side import TrainSide, num_samples
from lightning_dropout_callbacks.trials import Trials

__all__ = ["OverfittingMonitor"]


class OverfittingMonitor(LeanCallback):
    """Log the gap between validation and training, with dropout off on both sides, at every validation.

    The loss logged in training is inflated by dropout, so its distance to the validation loss hides overfitting just
    where rates are high. This callback runs the module's own ``validation_step`` on a fixed part of the training data
    instead. For every metric ``val_<m>`` (or ``val/<m>``, ``<m>/val``) that the module logs in validation it logs, for
    ``EarlyStopping`` and ``ModelCheckpoint`` to monitor:

    - ``overfit/train_<m>`` and ``overfit/val_<m>``.
    - ``overfit/gap_<m>``: val - train, or train - val for a metric that is better when higher. Positive where the model
      does worse on validation data.
    - ``overfit/slope_<m>``: what the gap grew by in 1,000 steps over the last 5 validations; 0 at the first one.
    - ``overfit/dropout_noise_<m>``: what dropout adds to the metric on the training batches right now: positive for a
      loss, negative for an accuracy. Only dropout is switched on for it, and only where it was on in training.

    ``overfit/state`` is -1 while the model underfits, 0 while it fits and 1 while it overfits, as ``judge`` says.

    After every validation it draws ``overfitting.png`` in the log folder, and at the end of the fit, also of one that
    fails, it writes ``report.html``, one file to keep or to send.

    The module is left as it was, bit for bit: weights, buffers, torchmetrics, lists, random numbers, logged values.
    What is logged is weighted by sample counts and equal on all ranks. What cannot be run on training batches is named
    once, with the reason, and training goes on. Training data that is transformed at random is warned about.

    Args:
        num_train_batches: How many batches, of the validation loader's batch size, the fixed part has over all ranks.
            The cost is to read and evaluate them twice per validation, for each validation loader; what it came to is
            said at the end of the fit.
        train_dataloader: Where to take it from, if not from the trainer's own loader.
        dropout_noise: Evaluate them with dropout on, too; without, the cost is half.
        loss: Which metric ``<m>`` the state and the onset are judged by. By default ``loss``, or else the first that is
            better when lower; without one there is no state. It has to be above 0.
        judge: When the model counts as overfitting; by default once validation has stopped improving with a gap of
            more than a quarter of the validation loss.
        seed: Chooses the samples, and the dropout masks of the noise.
        num_workers: Worker processes that read them.
        plot: Draw ``overfitting.png`` and write ``report.html``.

    Raises:
        ValueError: Here, if there are no batches to measure on. At setup, if the trainer has two of these callbacks.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> from lightning.pytorch.callbacks import EarlyStopping
        >>> stop = EarlyStopping("overfit/state", mode="min", divergence_threshold=0.5, patience=1_000)
        >>> trainer = Trainer(callbacks=[OverfittingMonitor(), stop], logger=False, enable_checkpointing=False)
    """

    def __init__(
        self,
        num_train_batches: int = 20,
        *,
        train_dataloader: Iterable[Any] | None = None,
        dropout_noise: bool = True,
        loss: str | None = None,
        judge: FitJudge | None = None,
        seed: int = 0,
        num_workers: int = 0,
        plot: bool = True,
    ) -> None:
        if not isinstance(num_train_batches, int) or num_train_batches < 1:
            raise ValueError(f"OverfittingMonitor(num_train_batches={num_train_batches}): give 1 or more batches.")
        self.num_train_batches = num_train_batches
        self.train_dataloader = train_dataloader
        self.dropout_noise = dropout_noise
        self.loss = loss
        self.judge = judge or FitJudge()
        self.seed = seed
        self.num_workers = num_workers
        self.plot = plot
        self._history: list[OverfittingRecord] = []
        self._start_anew()

    @cached_property  # Lightning asks for it in every hook
    def state_key(self) -> str:
        """Tells histories on different parts of the data apart."""
        return self._generate_state_key(num_train_batches=self.num_train_batches, seed=self.seed)

    @property
    def history(self) -> list[OverfittingRecord]:
        """What was measured, oldest first; a resumed run continues it."""
        return list(self._history)

    @property
    def state(self) -> FitLabel | None:
        """``"underfit"``, ``"fit"`` or ``"overfit"`` at the last validation; None before the first."""
        number = self._history[-1].values.get("overfit/state") if self._history else None
        return next((label for label, value in STATES.items() if value == number), None)

    @property
    def onset(self) -> int | None:
        """The training step at which overfitting set in: where validation was best if only training improved since."""
        return None if self._judged is None else find_onset(self._history, self._judged)

    @property
    def _judged(self) -> str | None:
        return self.loss or judged_loss(self._history)

    @property
    def _pictures(self) -> list[Path]:
        return [] if self._files is None else self._files.pictures

    def _start_anew(self) -> None:
        self._trials = Trials(
            "OverfittingMonitor", advice="Pass train_dataloader= with batches like those of validation."
        )
        self._train = TrainSide(
            self._trials,
            num_batches=self.num_train_batches,
            dataloader=self.train_dataloader,
            seed=self.seed,
            num_workers=self.num_workers,
            has_noise=self.dropout_noise,
        )
        self._page = RunPage("OverfittingMonitor")
        self._watch = Stopwatch()
        self._is_due = self._has_news = self._has_trained = False
        self._num_val_samples: dict[int, int] = {}
        self._files: OverfittingFiles | None = None
        self._unhook: Callable[[], None] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a second monitor; forget the data of the fit before."""
        super().setup(trainer, pl_module, stage)
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        if sum(isinstance(callback, OverfittingMonitor) for callback in callbacks) > 1:
            raise ValueError("The trainer has two OverfittingMonitor callbacks, which log to the same names. Keep one.")
        self._start_anew()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say at once if there will be nothing to measure."""
        self._watch = Stopwatch()
        is_trial = bool(trainer.fast_dev_run)  # type: ignore[attr-defined]
        folder = trainer.log_dir or trainer.default_root_dir  # a broadcast, so on all ranks
        self._files = OverfittingFiles(Path(folder), self._trials) if self.plot and not is_trial else None
        self._page.start(trainer, self._history, self._judged)
        if not trainer.enable_validation:
            name = type(pl_module).__name__
            self._trials.name("measure a gap", f"{name} has no validation_step, or the trainer no validation data")

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """After the first batch since a validation, note what is in train mode."""
        if not self._has_trained:
            self._has_trained = True
            self._train.note_training(pl_module)
        self.pass_over("on_train_batch_end")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Get ready for the first batch, before which every hook that prepares a validation has run."""
        self._num_val_samples = {}
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
            self._is_due = self._has_trained = False
            self.call_again("on_train_batch_end")
            # An index comes here only where validation_step gets one.
            loaders = [None] if dataloader_idx is None else range(len(trainer.num_val_batches))
            with self._watch.running():
                self._train.measure(trainer, pl_module, batch, loaders)
        if self._train.logged is not None and trainer.world_size > 1:
            loader = dataloader_idx or 0
            self._num_val_samples[loader] = self._num_val_samples.get(loader, 0) + num_samples(batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Run the module's hook on the training side, and arrange to compare when it has run on the other."""
        if self._train.logged is None:
            return
        with self._watch.running():
            self._train.end_epoch()
        # The module's own hook comes after those of callbacks, and EarlyStopping reads what is logged until then.
        self._unhook = run_after_hook(pl_module, "on_validation_epoch_end", lambda: self._compare(trainer, pl_module))

    def _compare(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._train.logged is not None
        values = compare(self._train.logged, trainer.callback_metrics, self._num_val_samples, noisy=self._train.noisy)
        self._train.forget()
        if not values:
            if not self._trials.has_failures:
                self._trials.name("compare metrics", f"{type(pl_module).__name__} logs none in validation")
            return
        sites = find_sites(pl_module)
        rates = {name: sum(site.rate for site in group) / len(group) for name, group in sites.groups().items()}
        record = OverfittingRecord(trainer.global_step, trainer.current_epoch, values, rates, sites.rates())
        self._history = extended(self._history, record)
        values |= {f"overfit/slope_{metric}": slope for metric, slope in gap_slopes(self._history).items()}
        values |= judge_state(self._history, self._judged, self.judge, self._trials)
        self._page.define(trainer, values)
        pl_module.log_dict(values, sync_dist=True, add_dataloader_idx=False, batch_size=1)
        self._has_news = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the picture anew, and show it to the loggers."""
        if not (self._has_news and trainer.is_global_zero):
            return
        self._has_news = False
        if self._files is not None:
            with self._watch.running():
                self._files.draw(self._history)
        self._page.show(trainer, self._history, self._judged, self._pictures)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what watching has cost, and write the report."""
        rank_zero_info(f"OverfittingMonitor {self._cost()}.")
        self._write_report(trainer, pl_module, "reached its end")

    def _cost(self) -> str:
        return (
            f"ran validation_step on {self._train.num_runs} training batches, which took {self._watch.seconds:.1f} s, "
            f"{self._watch.share:.1%} of the fit"
        )

    def _write_report(self, trainer: Trainer, pl_module: LightningModule, outcome: str) -> None:
        guards = [callback for callback in trainer.callbacks if isinstance(callback, ModeGuard)]  # type: ignore[attr-defined]
        findings = guards[0].findings if guards else None
        if self._files is not None and trainer.is_global_zero and (self._history or findings):
            facts = {"outcome": outcome, "OverfittingMonitor": self._cost()}
            self._files.write_report(self._history, findings, lambda: describe_run(trainer, pl_module, facts))
        report = None if self._files is None else self._files.report
        self._page.close(trainer, self._history, self._pictures, report)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave nothing on the module; report how far the fit came."""
        if self._unhook is not None:
            self._unhook()
        self._unhook = None
        if trainer.state.fn == "fit":
            self._write_report(trainer, pl_module, f"ended by {type(exception).__name__} {exception}".rstrip())
        self._train.forget()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let go of the data."""
        self._start_anew()

    def state_dict(self) -> dict[str, Any]:
        """The history, in plain types."""
        return {"history": [record._asdict() for record in self._history]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the history."""
        self._history = [OverfittingRecord(**record) for record in state_dict["history"]]
