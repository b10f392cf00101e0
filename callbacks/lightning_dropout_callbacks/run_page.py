"""What the page of a run shows that scalars cannot say."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from lightning_dropout_callbacks.overfitting_history import OverfittingRecord
from lightning_dropout_callbacks.overfitting_verdict import find_onset, judged_loss
from lightning_dropout_callbacks.trials import Trials
from lightning_dropout_callbacks.wandb_charts import log_charts, log_rates, log_report, onset_message, verdict
from lightning_dropout_callbacks.wandb_config import audit_config, define_axes, site_config

__all__ = ["RunPage"]

_SECONDS_BETWEEN_ALERTS = 300


class RunPage:
    """Gives TensorBoard and W&B pictures, and W&B what the page of a run has room for: tables, charts and alerts.

    Only the first rank says anything. What a logger refuses is named once, and training goes on.
    """

    def __init__(self, owner: str) -> None:
        self._trials = Trials(owner, advice="")
        self._defined: set[str] = set()
        self._is_onset_known = False

    def describe(self, trainer: Trainer, module: LightningModule) -> None:
        """Write the dropout sites, and what an audit finds, into the configuration of the run."""
        self._tell(
            trainer,
            "write the dropout sites into the W&B configuration",
            lambda logger: logger.log_hyperparams({"dropout_sites": site_config(module)}),
        )
        self._tell(
            trainer,
            "audit the model for the W&B configuration",
            lambda logger: logger.log_hyperparams({"dropout_audit": audit_config(trainer, module)}),
        )

    def alert(self, trainer: Trainer, title: str, message: str) -> None:
        """Send an alert; of those with one title, W&B passes on one in five minutes."""
        self._tell(
            trainer,
            "send a W&B alert",
            lambda logger: logger.experiment.alert(title, message, "WARN", wait_duration=_SECONDS_BETWEEN_ALERTS),
        )

    def start(self, trainer: Trainer, history: Sequence[OverfittingRecord], loss: str | None) -> None:
        """Before a fit: do not alert again of what happened before it was interrupted."""
        past = [record for record in history if record.step <= trainer.global_step]
        loss = loss or judged_loss(past)
        self._is_onset_known = loss is not None and find_onset(past, loss) is not None

    def define(self, trainer: Trainer, names: Iterable[str]) -> None:
        """Before metrics are logged for the first time: say what they are drawn over, and how they are summed up."""
        if new := set(names) - self._defined:
            self._defined |= new
            self._tell(trainer, "define the axes of W&B's curves", lambda logger: define_axes(logger, new))

    def show(
        self, trainer: Trainer, history: Sequence[OverfittingRecord], loss: str | None, pictures: Iterable[Path]
    ) -> None:
        """After a validation: the verdict, an alert where overfitting set in, and the pictures.

        Pictures show the whole fit. Beyond the tenth validation there are new ones when it is a tenth longer.
        """
        if (loss := loss or judged_loss(history)) is not None:
            self._tell(
                trainer,
                "write the W&B summary",
                lambda logger: logger.experiment.summary.update(verdict(history, loss)),
            )
            if not self._is_onset_known and find_onset(history, loss) is not None:
                self._is_onset_known = True
                self.alert(trainer, "Overfitting", onset_message(history, loss))
        if _is_shown(len(history)):
            self._show_pictures(trainer, history[-1].step, pictures)

    def close(
        self, trainer: Trainer, history: Sequence[OverfittingRecord], pictures: Iterable[Path], report: Path | None
    ) -> None:
        """At the end of a fit: the last pictures, the report, the charts, and the table of rates."""
        if report is not None:
            self._tell(trainer, f"log {report.name} to W&B", partial(log_report, report))
        if not history:
            return
        if not _is_shown(len(history)):
            self._show_pictures(trainer, history[-1].step, pictures)

        def log_tables(logger: WandbLogger) -> None:
            # For each of these W&B asks its server, for 20 s if it has gone: so at the end, and not after a failure.
            log_charts(logger, history)
            log_rates(logger, history)

        self._tell(trainer, "log charts and tables to W&B", log_tables)

    def _show_pictures(self, trainer: Trainer, step: int, pictures: Iterable[Path]) -> None:
        for picture in pictures:
            self._tell(trainer, f"log {picture.name} to W&B", partial(_log_to_wandb, picture))
            to_tensorboard = partial(_log_to_tensorboard, picture, step)
            self._tell(trainer, f"log {picture.name} to TensorBoard", to_tensorboard, kind=TensorBoardLogger)

    def _tell(
        self, trainer: Trainer, what: str, action: Callable[..., object], kind: type[Logger] = WandbLogger
    ) -> None:
        for logger in trainer.loggers if trainer.is_global_zero else ():
            if _is_a(logger, kind):
                try:
                    action(logger)
                except Exception as error:
                    self._trials.name(what, f"{type(error).__name__}: {error}")


def _is_a(logger: Logger, kind: type[Logger]) -> bool:
    """Whether a logger is of a kind, also of the class of that name in ``pytorch_lightning``, the other package."""
    return any(parent.__name__ == kind.__name__ for parent in type(logger).__mro__)


def _is_shown(num_validations: int) -> bool:
    """Whether the fit is a tenth longer than when its pictures were shown last."""
    lengths = [math.floor(math.log(n, 1.1)) for n in (num_validations, num_validations - 1) if n > 0]
    return num_validations <= 10 or lengths[0] > lengths[1]


def _log_to_wandb(picture: Path, logger: WandbLogger) -> None:
    logger.log_image(f"overfit/{picture.stem}", [str(picture)])


def _log_to_tensorboard(picture: Path, step: int, logger: TensorBoardLogger) -> None:
    from matplotlib.image import imread

    logger.experiment.add_image(f"overfit/{picture.stem}", imread(picture), step, dataformats="HWC")
