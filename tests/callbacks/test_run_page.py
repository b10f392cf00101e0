"""What loggers are told, where they are not as they should be."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from lightning_dropout_callbacks.overfitting_history import OverfittingRecord
from lightning_dropout_callbacks.run_page import RunPage
from torch import Tensor, nn

from lightning_dropout.callbacks import DropoutSummary, ModeGuard, OverfittingMonitor


class Model(BoringModel):
    """Logs a loss, and has dropout on in validation."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(32, 8), nn.Dropout(0.3), nn.Linear(8, 2))
        self.layer = nn.Dropout(1e-6)

    def forward(self, x: Tensor) -> Any:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self(batch).square().mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self(torch.nn.functional.dropout(batch, 1e-6)).square().mean())


class Run:
    """Stands in for a run of W&B: remembers scalars, and what else it is told."""

    def __init__(self, *, sync_tensorboard: bool = False, error: Exception | None = None) -> None:
        self.settings = SimpleNamespace(sync_tensorboard=sync_tensorboard)
        self.error = error
        self.rows: list[dict[str, Any]] = []
        self.metrics: dict[str, dict[str, Any]] = {}
        self.alerts: list[tuple[Any, ...]] = []
        self.config = self.summary = self
        self.updates: dict[str, Any] = {}

    def log(self, row: dict[str, Any]) -> None:
        if all(isinstance(value, (int, float)) for value in row.values()):
            self.rows.append(row)
        else:
            self._fail()

    def define_metric(self, name: str, **kwargs: Any) -> None:
        self._fail()
        self.metrics[name] = kwargs

    def alert(self, *args: Any, **kwargs: Any) -> None:
        self._fail()
        self.alerts.append(args)

    def update(self, values: dict[str, Any], **kwargs: Any) -> None:
        self._fail()
        self.updates |= values

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


def fit(run: Run, folder: Path, model: LightningModule | None = None, **kwargs: Any) -> None:
    trainer = Trainer(
        max_epochs=2,
        limit_train_batches=3,
        limit_val_batches=2,
        accelerator="cpu",
        logger=WandbLogger(experiment=run, save_dir=folder, **kwargs),  # type: ignore[arg-type]
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[DropoutSummary(), ModeGuard(), OverfittingMonitor(plot=False)],
        default_root_dir=folder,
    )
    trainer.fit(model or Model())


@pytest.mark.filterwarnings("ignore:ModeGuard")
def test_what_wandb_refuses_is_named_once_and_training_goes_on(tmp_path: Path) -> None:
    run = Run(error=ConnectionResetError("Connection lost"))
    with pytest.warns(UserWarning, match="W&B") as caught:
        fit(run, tmp_path)
    messages = [str(warning.message) for warning in caught if "W&B" in str(warning.message)]
    assert len(messages) == len(set(messages))
    assert (
        "OverfittingMonitor cannot write the W&B summary: ConnectionResetError: Connection lost. "
        "Training goes on without." in messages
    )
    assert any(message.startswith("ModeGuard cannot send a W&B alert") for message in messages)
    assert any(message.startswith("DropoutSummary cannot write the dropout sites into") for message in messages)
    assert [row["trainer/global_step"] for row in run.rows if "overfit/gap_loss" in row] == [2, 5]


@pytest.mark.filterwarnings("ignore:ModeGuard", "ignore:.*log charts and tables")
@pytest.mark.parametrize(("tensorboard", "axis"), [(False, "trainer/global_step"), (True, "global_step")])
def test_a_run_that_lightning_did_not_start_has_its_axes_too(tensorboard: bool, axis: str, tmp_path: Path) -> None:
    run = Run(sync_tensorboard=tensorboard)
    fit(run, tmp_path, prefix="mine")
    assert run.metrics["mine-overfit/*"] == run.metrics["mine-dropout/*"] == {"step_metric": axis, "step_sync": True}
    assert run.metrics["mine-overfit/gap_loss"]["summary"] == "min,last"


@pytest.mark.filterwarnings("ignore:ModeGuard", "ignore:.*log charts and tables")
def test_the_audit_says_why_there_is_none(tmp_path: Path) -> None:
    run = Run()
    fit(run, tmp_path)
    assert run.updates["dropout_audit"] == "not run: set Model.example_input_array"
    assert run.updates["dropout_sites"]["net.1"] == {"kind": "element", "sites": 1, "rate": 0.3}


@pytest.mark.filterwarnings("ignore:ModeGuard", "ignore:.*log charts and tables")
def test_the_audit_leaves_the_training_as_it_is(tmp_path: Path) -> None:
    weights = []
    for example in (None, torch.randn(2, 32, generator=torch.Generator().manual_seed(0))):
        torch.manual_seed(0)
        model = Model()
        model.example_input_array = example
        run = Run()
        fit(run, tmp_path, model)
        assert isinstance(run.updates["dropout_audit"], str if example is None else dict)
        weights.append(model.net[0].weight.detach().clone())
    assert torch.equal(*weights)


def test_works_with_the_loggers_of_pytorch_lightning_too(tmp_path: Path) -> None:
    from pytorch_lightning import Trainer as OtherTrainer
    from pytorch_lightning.loggers import WandbLogger as OtherWandbLogger

    run = Run()
    trainer = OtherTrainer(accelerator="cpu", logger=OtherWandbLogger(experiment=run, save_dir=tmp_path))
    RunPage("DropoutSummary").describe(trainer, Model())
    assert run.updates["dropout_sites"]["net.1"] == {"kind": "element", "sites": 1, "rate": 0.3}


def history(val: list[float]) -> list[OverfittingRecord]:
    train = [1.0 - 0.1 * i for i in range(len(val))]
    return [
        OverfittingRecord(
            10 * (i + 1), i, {"overfit/train_loss": t, "overfit/val_loss": v, "overfit/gap_loss": v - t}, {}, {}
        )
        for i, (t, v) in enumerate(zip(train, val, strict=True))
    ]


def told(run: Run, tmp_path: Path) -> Trainer:
    return Trainer(accelerator="cpu", logger=WandbLogger(experiment=run, save_dir=tmp_path))  # type: ignore[arg-type]


def test_onset_is_told_once_also_across_an_interruption(tmp_path: Path) -> None:
    values = [1.0, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3]
    run = Run()
    trainer = told(run, tmp_path)
    page = RunPage("OverfittingMonitor")
    page.start(trainer, [], None)
    for length in range(1, len(values) + 1):
        page.show(trainer, history(values[:length]), None, [])
    message = (
        "Validation loss was best at step 20, at 0.8. By step 50 it went to 1.1, and on training data from 0.9 to 0.6."
    )
    assert run.alerts == [("Overfitting", message, "WARN")]
    assert run.updates["overfit/onset_step"] == 20
    assert run.updates["overfit/best_gap_loss"] == pytest.approx(-0.1)

    resumed = RunPage("OverfittingMonitor")
    resumed.start(SimpleNamespace(global_step=50), history(values[:5]), None)  # type: ignore[arg-type]
    resumed.show(trainer, history(values), None, [])
    assert len(run.alerts) == 1


def test_a_fit_without_an_onset_says_so(tmp_path: Path) -> None:
    run = Run()
    RunPage("OverfittingMonitor").show(told(run, tmp_path), history([1.0, 0.9, math.nan, 0.8, 0.7]), None, [])
    assert run.updates["overfit/onset_step"] is None
    assert run.updates["overfit/best_step"] == 50
    assert run.alerts == []


def test_a_long_fit_shows_fewer_pictures(tmp_path: Path) -> None:
    shown: list[int] = []
    logger = TensorBoardLogger(tmp_path)
    logger.experiment.add_image = lambda name, pixels, step, dataformats: shown.append(step)
    from matplotlib.image import imsave

    picture = tmp_path / "overfitting.png"
    imsave(picture, torch.zeros(2, 2, 3).numpy())
    page, trainer = RunPage("OverfittingMonitor"), Trainer(accelerator="cpu", logger=logger)
    records = history([1.0] * 500)
    for length in range(1, 501):
        page.show(trainer, records[:length], None, [picture])
    page.close(trainer, records, [picture], None)
    assert shown[:10] == [record.step for record in records[:10]]
    assert len(shown) < 60
    assert shown[-1] == records[-1].step
