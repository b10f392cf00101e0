"""A run survives, or fails cleanly: rates and modes are back, nothing is left on the module, no logged row is lost."""

from __future__ import annotations

import csv
import errno
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_dropout.callbacks import (
    AdaptiveDropout,
    DropoutScheduler,
    DropoutSummary,
    ModeGuard,
    OverfittingMonitor,
    RankSeed,
)
from lightning_dropout.schedules import Linear
from lightning_dropout.sites import find_sites

NUM_BATCHES = 4  # in an epoch, of which there are two
FAULT = 6  # the batch that the fault comes in, from 1 on; of validation, the second of the second epoch


class Model(LightningModule):
    """Calls ``fault`` in one batch of training or validation."""

    def __init__(self, stage: str = "", fault: Callable[[], Any] = lambda: None) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.LSTM(8, 8, 2, dropout=0.2))
        self.head = nn.Linear(8, 2)
        self.stage, self.fault = stage, fault
        self.is_broken = False

    def loss(self, batch: Any) -> Any:
        return F.cross_entropy(self.head(self.net(batch[0])[0]), batch[1])

    def at_fault(self, stage: str, batch_idx: int) -> None:
        if stage == self.stage and self.trainer.current_epoch == 1 and batch_idx == 1:
            self.fault()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.at_fault("training", batch_idx)
        loss = self.loss(batch) * (float("nan") if self.stage == "loss" else 1.0)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        if not self.trainer.sanity_checking:
            self.at_fault("validation", batch_idx)
        self.log("val_loss", self.loss(batch))

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        self.fault()
        return self.head(self.net(batch[0])[0])

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-2)


class Full(TorchCheckpointIO):
    """A disk with room for one checkpoint."""

    num_saved = 0

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        if self.num_saved:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.num_saved += 1
        super().save_checkpoint(*args, **kwargs)


class Broken(DummyLogger):
    """A logger whose server goes away."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.method, self.num_rows = method, 0

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:  # type: ignore[override]
        self.num_rows += "train_loss" in metrics
        self.use("log")

    def save(self) -> None:
        self.use("save")

    def use(self, method: str) -> None:
        if method == self.method and self.num_rows == FAULT:
            raise ConnectionError("the server has gone away")


def raises(error: BaseException) -> Callable[[], None]:
    def fault() -> None:
        raise error

    return fault


def data(num_samples: int, batch_size: int) -> DataLoader[Any]:
    x = torch.randn(num_samples, 4, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), batch_size=batch_size)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


class Case(NamedTuple):
    """A fault, what the fit ends with, and how many training rows are in the file then."""

    model: Callable[[], Model] = Model
    ends_with: type[BaseException] | None = None
    num_rows: int = 2 * NUM_BATCHES
    train: tuple[int, int] = (8 * NUM_BATCHES, 8)
    val: tuple[int, int] = (16, 8)
    logger: Callable[[], Any] | None = None
    plugins: tuple[Callable[[], Any], ...] = ()


CASES = {
    "exception in training": Case(lambda: Model("training", raises(RuntimeError("user"))), RuntimeError, FAULT - 1),
    "exception in validation": Case(lambda: Model("validation", raises(RuntimeError("user"))), RuntimeError),
    "SIGTERM in training": Case(lambda: Model("training", terminate), SIGTERMException, FAULT),
    "SIGTERM in validation": Case(lambda: Model("validation", terminate), SIGTERMException),
    "SIGINT in training": Case(lambda: Model("training", interrupt), SystemExit, FAULT - 1),
    "SIGINT in validation": Case(lambda: Model("validation", interrupt), SystemExit),
    "full disk": Case(ends_with=OSError, num_rows=FAULT - 1, plugins=(Full,)),
    "logger that cannot log": Case(ends_with=ConnectionError, num_rows=FAULT, logger=lambda: Broken("log")),
    "logger that cannot save": Case(ends_with=ConnectionError, num_rows=FAULT, logger=lambda: Broken("save")),
    "loss that is not a number": Case(lambda: Model("loss")),
    "empty validation set": Case(val=(0, 8)),
    "batches of one": Case(train=(NUM_BATCHES, 1), val=(2, 1)),
    "last batch smaller": Case(train=(8 * NUM_BATCHES - 7, 8), val=(9, 8)),
}


def callbacks(folder: Path, *, adaptive: bool) -> list[Callback]:
    writer = AdaptiveDropout() if adaptive else DropoutScheduler(Linear(0.1, 0.5))
    saver = ModelCheckpoint(folder / "checkpoints", every_n_train_steps=FAULT // 2, save_top_k=-1)
    return [RankSeed(0), DropoutSummary(), ModeGuard("fix"), OverfittingMonitor(2, plot=False), writer, saver]


def traces(*owners: Any) -> list[Any]:
    """What callbacks could leave on modules, trainers and other callbacks: classes, methods and hooks."""
    parts = [part for owner in owners for part in (owner.modules() if isinstance(owner, nn.Module) else [owner])]
    return [
        (
            type(part),
            sorted(name for name in vars(part) if callable(vars(part)[name]) and name not in ("log", "log_dict")),
            [len(hooks) for name, hooks in sorted(vars(part).items()) if name.endswith("_hooks")],
        )
        for part in parts
    ]


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """A process in the background is deaf to interrupts, and Lightning makes one so after the first."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.filterwarnings("ignore:ModeGuard. .* (not in the mode|in eval mode) after an exception")
@pytest.mark.filterwarnings("ignore:Total length of `DataLoader` across ranks is zero")
@pytest.mark.filterwarnings("ignore:OverfittingMonitor cannot measure a gap")
@pytest.mark.parametrize("adaptive", [False, True], ids=["scheduled", "adaptive"])
@pytest.mark.parametrize("name", CASES)
def test_a_fit_survives_or_fails_cleanly(name: str, adaptive: bool, tmp_path: Path) -> None:
    case = CASES[name]
    model, loggers = case.model(), [CSVLogger(tmp_path, name="", version="")]
    attached = callbacks(tmp_path, adaptive=adaptive)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=[*loggers, case.logger()] if case.logger else loggers,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=attached,
        plugins=[plugin() for plugin in case.plugins],
    )
    rates, left = find_sites(model).rates(), traces(model, trainer, *attached)
    modes = [module.training for module in model.modules()]
    with nullcontext() if case.ends_with is None else pytest.raises(case.ends_with):
        trainer.fit(model, data(*case.train), data(*case.val))

    assert find_sites(model).rates() == rates
    assert [module.training for module in model.modules()] == modes
    assert traces(model, trainer, *attached) == left
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len([row for row in rows if row["train_loss"]]) == case.num_rows
    for path in (tmp_path / "checkpoints").glob("*"):
        torch.load(path, weights_only=True)

    # The next fit begins as if nothing had happened.
    again = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=attached[:-1],
    )
    model.stage = ""
    again.fit(model, data(16, 8), data(16, 8))
    assert find_sites(model).rates() == rates
