from __future__ import annotations

import csv
import random
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, WeightAveraging
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset
from torchmetrics import Accuracy, MetricCollection

from lightning_dropout.callbacks import DropoutScheduler, ModeGuard, OverfittingMonitor


def data(num_samples: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_samples, 8, generator=generator)
    noise = torch.randn(num_samples, generator=generator)
    return TensorDataset(x, (x[:, 0] + 0.5 * noise > 0).long())


measuring = partial(OverfittingMonitor, plot=False)
TRAIN, VAL = data(60, seed=1), data(40, seed=2)


class Classifier(LightningModule):
    """Logs the loss in its step."""

    def __init__(self, rate: float = 0.7) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(rate), nn.Linear(32, 2))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("val_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.03)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(TRAIN, batch_size=10, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(VAL, batch_size=10)


class ListAndHook(Classifier):
    """The idiom of Lightning 2: a list of outputs, read and cleared at the end of the epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: list[Tensor] = []
        self.best = float("inf")

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        self.outputs.append(F.cross_entropy(self.net(batch[0]), batch[1], reduction="none"))

    def on_validation_epoch_end(self) -> None:
        loss = torch.cat(self.outputs).mean()
        self.best = min(self.best, loss.item())
        self.log_dict({"val/loss": loss, "val/best": self.best, "val/num_batches": float(len(self.outputs))})
        self.outputs.clear()


class LoggedMetric(Classifier):
    """A torchmetrics object and a collection, logged as objects."""

    def __init__(self) -> None:
        super().__init__()
        self.accuracy = Accuracy("multiclass", num_classes=2)
        self.more = MetricCollection(
            {
                "top": Accuracy("multiclass", num_classes=2, average="micro"),
                "macro": Accuracy("multiclass", num_classes=2),
            },
            prefix="val_",
        )

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        logits = self.net(batch[0])
        self.accuracy(logits, batch[1])
        self.more.update(logits, batch[1])
        self.log("val_acc", self.accuracy, on_step=True, on_epoch=True)
        self.log("val_loss", F.cross_entropy(logits, batch[1]), on_step=True, on_epoch=True, prog_bar=True)

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.more)


class Gathering(Classifier):
    """Gathers over ranks in the step, and keeps a running sum in a tensor and in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(()))
        self.seen = torch.zeros(())

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        losses = self.all_gather(F.cross_entropy(self.net(batch[0]), batch[1], reduction="none"))
        self.total += losses.sum()
        self.seen += losses.numel()
        self.log("val_loss", losses.mean(), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        self.log("val_total", self.total / self.seen)


class WithBatchNorm(Classifier):
    """BatchNorm that goes on learning in validation, a hook that stores features, random numbers, a meter."""

    class Meter:
        def __init__(self) -> None:
            self.total, self.count = 0.0, 0

    def __init__(self) -> None:
        super().__init__()
        self.net.insert(1, nn.BatchNorm1d(32))
        self.meter = self.Meter()
        self.features: list[Tensor] = []
        self.net[0].register_forward_hook(lambda module, args, output: self.features.append(output))

    def on_validation_model_eval(self) -> None:
        self.eval()
        self.net[1].train()

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        noisy = batch[0] + 0.1 * torch.randn_like(batch[0]) * random.random() * np.random.rand()
        loss = F.cross_entropy(self.net(noisy), batch[1])
        self.meter.total, self.meter.count = self.meter.total + loss.item(), self.meter.count + 1
        self.log("val_loss", loss)
        self.log("val_norm", self.features.pop().norm())
        self.log("loss/val", self.meter.total / self.meter.count, reduce_fx="max")

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.features.clear()
        return loss


class TwoLoaders(Classifier):
    """Two validation loaders, with lists per loader."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: list[list[Tensor]] = [[], []]

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.outputs[dataloader_idx].append(loss)
        self.log("val_loss", loss)

    def on_validation_epoch_end(self) -> None:
        for i, losses in enumerate(self.outputs):
            self.log(f"val_list_{i}", torch.stack(losses).mean())
            losses.clear()

    def val_dataloader(self) -> Any:
        return [DataLoader(VAL, batch_size=10), DataLoader(data(20, seed=3), batch_size=10)]


def fit(
    module: LightningModule, folder: Path, *callbacks: Callback, ckpt_path: Path | None = None, **kwargs: Any
) -> Trainer:
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    kwargs = {"max_epochs": 3, "num_sanity_val_steps": 1, "enable_checkpointing": False, **kwargs}
    trainer = Trainer(
        accelerator="cpu",
        logger=CSVLogger(folder, name="", version=""),
        log_every_n_steps=2,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **kwargs,
    )
    trainer.fit(module, ckpt_path=ckpt_path, weights_only=True if ckpt_path else None)
    return trainer


def rows(folder: Path) -> list[dict[str, str]]:
    """What the logger received from the user's module."""
    with (folder / "metrics.csv").open() as file:
        read = [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]
    return [{name: value for name, value in row.items() if not name.startswith("overfit/")} for row in read]


def evaluate(module: LightningModule, samples: list[int], dataset: TensorDataset) -> float:
    """The loss of a classifier in eval mode, without Lightning."""
    x, y = dataset[samples]
    module.eval()
    with torch.no_grad():
        return F.cross_entropy(module.net(x).double(), y).item()


class Samples(Dataset[Any]):
    """Remembers which samples were asked for, batch by batch."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(TRAIN)

    def __getitem__(self, index: int) -> Any:
        self.asked.append(index)
        return TRAIN[index]


@pytest.mark.parametrize("module_class", [ListAndHook, LoggedMetric, Gathering, WithBatchNorm, TwoLoaders])
def test_the_module_and_what_it_logs_are_left_bit_for_bit(module_class: type[Classifier], tmp_path: Path) -> None:
    plain, watched, monitor = module_class(), module_class(), measuring(4)
    states = []
    for module, folder, callbacks in ((plain, tmp_path / "plain", ()), (watched, tmp_path / "watched", (monitor,))):
        fit(module, folder, *callbacks, val_check_interval=3)
        states.append((torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()))
    assert states[0] == states[1]
    assert rows(tmp_path / "plain") == rows(tmp_path / "watched")
    assert plain.state_dict().keys() == watched.state_dict().keys()
    for a, b in zip(plain.state_dict().values(), watched.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    attributes = ("outputs", "best", "seen", "features")
    assert repr([vars(plain).get(name) for name in attributes]) == repr(
        [vars(watched).get(name) for name in attributes]
    )
    assert vars(plain).keys() == vars(watched).keys()
    assert type(watched) is module_class
    assert len(monitor.history) == 6


@pytest.mark.parametrize(
    ("module_class", "metrics"),
    [
        (ListAndHook, {"loss", "best", "num_batches"}),
        (LoggedMetric, {"loss", "acc", "top", "macro"}),
        (Gathering, {"loss", "total"}),
        (WithBatchNorm, {"loss", "norm", "loss/val"}),
        (TwoLoaders, {"loss", "loss/dataloader_idx_1", "list_0", "list_1"}),
    ],
)
def test_every_metric_of_the_module_gets_a_gap(
    module_class: type[Classifier], metrics: set[str], tmp_path: Path
) -> None:
    monitor = measuring(3)
    trainer = fit(module_class(), tmp_path, monitor, max_epochs=1)
    values = monitor.history[-1].values
    kinds = ("train", "val", "gap", "slope", "dropout_noise")
    assert set(values) == {f"overfit/{kind}_{metric}" for kind in kinds for metric in metrics} | {"overfit/state"}
    for name, value in values.items():
        assert trainer.callback_metrics[name].item() == pytest.approx(value, rel=1e-6, abs=1e-7)
    if module_class is ListAndHook:
        assert values["overfit/train_num_batches"] == 3.0
        assert values["overfit/val_num_batches"] == 4.0


def test_the_gap_is_that_of_an_independent_evaluation(tmp_path: Path) -> None:
    module, samples, monitor = Classifier(), Samples(), measuring(4)
    module.train_dataloader = lambda: DataLoader(samples, batch_size=20, shuffle=True)
    seen: list[list[int]] = []

    class Listen(Callback):
        def on_validation_start(self, *_: Any) -> None:
            samples.asked.clear()

        def on_validation_end(self, *_: Any) -> None:
            seen.append(list(samples.asked))

    fit(module, tmp_path, monitor, Listen(), max_epochs=20, num_sanity_val_steps=0)
    subset = seen[-1][:40]
    assert all(asked[-80:] == subset + subset for asked in seen)  # with dropout off and on
    assert len(set(subset)) == 40
    values = monitor.history[-1].values
    train = evaluate(module, subset, TRAIN)
    gap = evaluate(module, list(range(len(VAL))), VAL) - train
    assert values["overfit/train_loss"] == pytest.approx(train, rel=1e-6)
    assert values["overfit/gap_loss"] == pytest.approx(gap, rel=1e-6)
    assert gap > 0.05


def test_higher_is_better_turns_the_sign(tmp_path: Path) -> None:
    monitor = measuring()
    fit(LoggedMetric(), tmp_path, monitor, max_epochs=20)
    values = monitor.history[-1].values
    assert values["overfit/gap_acc"] == values["overfit/train_acc"] - values["overfit/val_acc"]
    assert values["overfit/gap_loss"] == values["overfit/val_loss"] - values["overfit/train_loss"]
    assert values["overfit/gap_acc"] > 0.0


def test_early_stopping_sees_the_gap(tmp_path: Path) -> None:
    stop = EarlyStopping("overfit/gap_loss", patience=1)
    monitor = measuring()
    trainer = fit(Classifier(), tmp_path, stop, monitor, max_epochs=100)
    assert trainer.current_epoch < 99
    gaps = [record.values["overfit/gap_loss"] for record in monitor.history]
    assert stop.best_score.item() == pytest.approx(min(gaps), rel=1e-6)


def test_both_sides_are_measured_with_averaged_weights(tmp_path: Path) -> None:
    """A callback that puts other weights in for the time of the validation, and takes them out before its end."""
    module, monitor = Classifier(), measuring(6)
    averaging = WeightAveraging()
    fit(module, tmp_path, averaging, monitor)
    everything = list(range(len(TRAIN)))
    assert monitor.history[-1].values["overfit/train_loss"] == pytest.approx(
        evaluate(averaging._average_model.module, everything, TRAIN), rel=1e-6
    )


def test_a_module_may_change_the_trainer_at_the_end_of_its_validation(tmp_path: Path) -> None:
    class Restless(Classifier):
        """Steps a scheduler, reads what was logged, prints, saves, writes to the logger and stops."""

        automatic_optimization = False

        def __init__(self) -> None:
            super().__init__()
            self.read: list[float] = []

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = F.cross_entropy(self.net(batch[0]), batch[1])
            self.optimizers().zero_grad()
            self.manual_backward(loss)
            self.optimizers().step()
            return loss

        def on_validation_epoch_end(self) -> None:
            self.read.append(self.trainer.callback_metrics["val_loss"].item())
            self.lr_schedulers().step()
            self.print("end of validation")
            self.logger.log_metrics({"epochs": len(self.read)})
            self.trainer.save_checkpoint(Path(self.logger.log_dir) / f"{len(self.read)}.ckpt")
            self.log("val_read", self.read[-1])
            self.trainer.should_stop = len(self.read) == 2

        def configure_optimizers(self) -> Any:
            optimizer = super().configure_optimizers()
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)]

    plain, watched, monitor = Restless(), Restless(), measuring()
    results = []
    for module, folder, callbacks in ((plain, tmp_path / "plain", ()), (watched, tmp_path / "watched", (monitor,))):
        trainer = fit(module, folder, *callbacks, num_sanity_val_steps=0)
        names = {path.name for path in folder.iterdir()} - {"overfitting.png"}
        results.append((trainer.current_epoch, trainer.optimizers[0].param_groups[0]["lr"], module.read, names))
    assert results[0] == results[1]
    assert rows(tmp_path / "plain") == rows(tmp_path / "watched")
    values = monitor.history[-1].values
    assert values["overfit/train_read"] == pytest.approx(values["overfit/train_loss"])


def test_rates_stand_beside_the_gap_and_the_guard_finds_nothing(tmp_path: Path) -> None:
    monitor, guard = measuring(), ModeGuard("raise")
    fit(Classifier(), tmp_path, guard, monitor, DropoutScheduler(lambda progress: 0.9 * progress))
    assert [record.rates["net"] for record in monitor.history] == pytest.approx([0.25, 0.55, 0.85])
    assert [record.step for record in monitor.history] == [6, 12, 18]


def test_an_overridden_log_keeps_its_names(tmp_path: Path) -> None:
    class Prefixed(Classifier):
        def log(self, name: str, value: Any, **kwargs: Any) -> None:
            super().log(f"model/{name}" if name.startswith("val") else name, value, **kwargs)

    monitor = measuring()
    fit(Prefixed(), tmp_path, monitor, max_epochs=1)
    assert "overfit/gap_model/val_loss" in monitor.history[-1].values


def test_hooks_that_prepare_batches_are_used(tmp_path: Path) -> None:
    class Prepared(Classifier):
        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return {"x": batch[0], "y": batch[1]}

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return batch["x"], batch.pop("y")

    monitor = measuring()
    fit(Prepared(), tmp_path, monitor, max_epochs=1)
    assert "overfit/gap_loss" in monitor.history[-1].values


def test_an_exception_in_validation_leaves_the_module_clean(tmp_path: Path) -> None:
    class Failing(ListAndHook):
        fails_on: str | None = None

        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            super().validation_step(batch, batch_idx)
            if self.current_epoch == 1 and batch_idx == 1:
                raise RuntimeError("the user's own")

    module = Failing()
    keys = vars(module).keys()
    with pytest.raises(RuntimeError, match="the user's own"):
        fit(module, tmp_path, measuring())
    assert type(module) is Failing
    assert module.outputs == []
    assert vars(module).keys() == keys
    assert isinstance(module.trainer, Trainer)


def test_an_exception_between_the_hooks_leaves_the_module_clean(tmp_path: Path) -> None:
    class Later(Callback):
        def on_validation_epoch_end(self, *_: Any) -> None:
            raise RuntimeError("another callback")

    module = ListAndHook()
    with pytest.raises(RuntimeError, match="another callback"):
        fit(module, tmp_path, measuring(), Later(), num_sanity_val_steps=0)
    assert "on_validation_epoch_end" not in vars(module)


def test_training_batches_that_do_not_fit_are_named_once(tmp_path: Path) -> None:
    class Odd(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return F.cross_entropy(self.net(batch["x"]), batch["y"])

        def train_dataloader(self) -> DataLoader[Any]:
            return DataLoader([{"x": x, "y": y} for x, y in TRAIN], batch_size=10)

    module, monitor = Odd(), measuring()
    with pytest.warns(UserWarning, match="OverfittingMonitor") as warned:
        fit(module, tmp_path, monitor)
    (message,) = (str(w.message) for w in warned if "OverfittingMonitor" in str(w.message))
    assert message == (
        "OverfittingMonitor cannot run validation_step on training batches: KeyError: 0. Training goes on without. "
        "Pass train_dataloader= with batches like those of validation."
    )
    assert monitor.history == []
    assert type(module) is Odd

    monitor = measuring(train_dataloader=DataLoader(TRAIN, batch_size=10))
    fit(module, tmp_path / "given", monitor)
    assert len(monitor.history) == 3


def test_what_cannot_be_measured_is_named_once(tmp_path: Path) -> None:
    class Silent(Classifier):
        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            return None

    with pytest.warns(
        UserWarning, match=r"OverfittingMonitor cannot compare metrics: Silent logs none in validation\."
    ):
        fit(Silent(), tmp_path, measuring())

    with pytest.warns(
        UserWarning, match="OverfittingMonitor cannot measure a gap: Classifier has no validation_step, or"
    ):
        fit(Classifier(), tmp_path / "none", measuring(), limit_val_batches=0)


def test_iterable_data_is_read_once_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            return iter(TRAIN)

    module, monitor = Classifier(), measuring(2)
    module.train_dataloader = lambda: DataLoader(Stream(), batch_size=6)
    with caplog.at_level("INFO"):
        fit(module, tmp_path, monitor)
    assert caplog.text.count("OverfittingMonitor measures on the first 2 batches of a fresh iterator") == 1
    train = evaluate(module, list(range(20)), TRAIN)
    assert monitor.history[-1].values["overfit/train_loss"] == pytest.approx(train, rel=1e-6)


def test_a_resumed_run_continues_the_history(tmp_path: Path) -> None:
    monitor = measuring()
    trainer = fit(Classifier(), tmp_path / "first", monitor, max_epochs=2)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    resumed = measuring()
    trainer = fit(Classifier(), tmp_path / "resumed", resumed, max_epochs=4, ckpt_path=tmp_path / "last.ckpt")
    assert resumed.history[:2] == monitor.history
    assert [record.epoch for record in resumed.history] == [0, 1, 2, 3]


def test_the_state_key_tells_subsets_apart() -> None:
    keys = {measuring().state_key, measuring(5).state_key, measuring(seed=1).state_key}
    assert len(keys) == 3


def test_bad_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"OverfittingMonitor\(num_train_batches=0\): give 1 or more batches\."):
        OverfittingMonitor(0)
    with pytest.raises(ValueError, match=r"The trainer has two OverfittingMonitor callbacks.* Keep one\."):
        fit(Classifier(), tmp_path, OverfittingMonitor(), OverfittingMonitor(seed=1))


def test_a_missing_matplotlib_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] in ("matplotlib", "wandb", "datasets")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("matplotlib", "wandb", "datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    monitor = OverfittingMonitor()
    with caplog.at_level("INFO"):
        fit(Classifier(), tmp_path, monitor)
    assert caplog.text.count("No overfitting.png without matplotlib: pip install 'lightning-dropout[recipes]'") == 1
    assert len(monitor.history) == 3


def test_a_picture_that_fails_is_named_and_training_goes_on(tmp_path: Path) -> None:
    class Obstruct(Callback):
        def on_train_start(self, *_: Any) -> None:
            (tmp_path / "overfitting.png").mkdir(parents=True)

    monitor = OverfittingMonitor()
    with pytest.warns(UserWarning, match=r"OverfittingMonitor cannot draw overfitting\.png: IsADirectoryError"):
        fit(Classifier(), tmp_path, monitor, Obstruct())
    assert len(monitor.history) == 3


def test_fast_dev_run_measures_and_draws_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monitor = OverfittingMonitor()
    fit(Classifier(), tmp_path, monitor, fast_dev_run=True)
    assert "overfit/gap_loss" in monitor.history[-1].values
    assert list(tmp_path.rglob("*.png")) == []


def test_it_works_in_the_other_lightning_package(tmp_path: Path) -> None:
    import pytorch_lightning

    class Other(pytorch_lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(8, 2)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    monitor = OverfittingMonitor(6)
    trainer = pytorch_lightning.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=[monitor],
    )
    module = Other()
    trainer.fit(module, DataLoader(TRAIN, batch_size=10, shuffle=True), DataLoader(VAL, batch_size=10))
    train = evaluate(module, list(range(len(TRAIN))), TRAIN)
    assert trainer.callback_metrics["overfit/train_loss"].item() == pytest.approx(train, rel=1e-5)
    assert (tmp_path / "overfitting.png").exists()
