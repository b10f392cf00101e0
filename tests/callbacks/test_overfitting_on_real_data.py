"""What the monitor says of the diabetes data, against evaluations that it has no part in."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_dropout.callbacks import OverfittingMonitor

NUM_TRAIN = 342


@cache
def diabetes() -> tuple[TensorDataset, TensorDataset]:
    from sklearn.datasets import load_diabetes

    x, y = (torch.as_tensor(part, dtype=torch.float32) for part in load_diabetes(return_X_y=True))
    x, y = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, val = order[:NUM_TRAIN], order[NUM_TRAIN:]
    return TensorDataset(x[train], y[train]), TensorDataset(x[val], y[val])


def network(rate: float) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Linear(10, 256), nn.ReLU(), nn.Dropout(rate)),
        *(nn.Linear(256, 256), nn.ReLU(), nn.Dropout(rate)),
        nn.Linear(256, 1),
    )


class Progression(LightningModule):
    def __init__(self, rate: float) -> None:
        super().__init__()
        self.net = network(rate)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = F.mse_loss(self.net(batch[0])[:, 0], batch[1])
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", F.mse_loss(self.net(batch[0])[:, 0], batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def evaluate(net: nn.Module, data: TensorDataset) -> float:
    x, y = data.tensors
    with torch.no_grad():
        return F.mse_loss(net(x)[:, 0].double(), y.double()).item()


def fit(module: LightningModule, folder: Path, *callbacks: Callback, num_epochs: int) -> Trainer:
    torch.manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()
    train, val = diabetes()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=num_epochs,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(module, DataLoader(train, 32, shuffle=True), DataLoader(val, 50))
    return trainer


def test_at_a_high_rate_the_gap_is_that_of_the_checkpoint_and_the_logged_losses_hide_it(tmp_path: Path) -> None:
    seen: list[Tensor] = []

    class Logged(Callback):
        def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
            metrics = trainer.callback_metrics
            self.gap = float(metrics["val_loss"] - metrics["train_loss"])

    class Watched(Progression):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            seen.append(batch[0])
            super().validation_step(batch, batch_idx)

    monitor, logged = OverfittingMonitor(6, plot=False), Logged()
    trainer = fit(Watched(0.7), tmp_path, monitor, logged, num_epochs=40)
    trainer.save_checkpoint(tmp_path / "last.ckpt")

    weights = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    net = network(0.0)
    net.load_state_dict({name.removeprefix("net."): weight for name, weight in weights.items()})
    train, val = diabetes()
    measured = torch.cat(seen[-14:-8])  # 6 batches with dropout off, the same with dropout on, 2 of the validation
    chosen = [int((train.tensors[0] == row).all(1).nonzero()) for row in measured]
    assert len(set(chosen)) == 300
    true_gap = evaluate(net, val) - evaluate(net, TensorDataset(*train[chosen]))
    values = monitor.history[-1].values
    assert values["overfit/gap_loss"] == pytest.approx(true_gap, rel=1e-5)
    assert logged.gap < 0.5 * true_gap


def test_the_onset_is_where_validation_was_best(tmp_path: Path) -> None:
    class Evaluate(Callback):
        def __init__(self) -> None:
            self.losses: list[float] = []

        def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
            pl_module.net.eval()
            self.losses.append(evaluate(pl_module.net, diabetes()[1]))
            pl_module.net.train()

    monitor, independent = OverfittingMonitor(plot=False), Evaluate()
    trainer = fit(Progression(0.0), tmp_path, monitor, independent, num_epochs=60)
    steps_per_epoch = trainer.global_step / 60
    best = independent.losses.index(min(independent.losses)) + 1
    assert independent.losses[-1] > 1.2 * min(independent.losses)
    assert monitor.onset is not None
    assert abs(monitor.onset / steps_per_epoch - best) <= 10
    assert monitor.state == "overfit"
    # A fit that stops at its best has not overfitted yet.
    short = OverfittingMonitor(plot=False)
    fit(Progression(0.0), tmp_path, short, num_epochs=best)
    assert short.onset is None
