"""The trainings of ``ablations.py``: what each row of each table does."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader, TensorDataset

from lightning_dropout import (
    CNN,
    MLP,
    Classifier,
    CNNDropout,
    LanguageModel,
    MLPDropout,
    Regressor,
    TextData,
    Transformer,
    TransformerDropout,
    find_sites,
)
from lightning_dropout.callbacks import AdaptiveDropout, DropoutScheduler, OverfittingMonitor
from lightning_dropout.layers import Dropout2d
from lightning_dropout.models.transformer.options import EncoderConfig
from lightning_dropout.schedules import Curriculum, Early, Late
from tests.benchmarks.passages import CENTURIES, passages
from tests.benchmarks.runs import Figures
from tests.benchmarks.tasks import diabetes_data, mnist_data

Parts = Sequence[tuple[Tensor, Tensor]]
SCHEDULES = ("none", "constant", "early", "late", "curriculum", "adaptive")
WEIGHT_DECAY = 1.0


class BestWeights(Callback):
    """Early stopping, but for the time it saves: goes back to the weights of the best validation."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.loss = float("inf")
        self.weights: dict[str, Any] = {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loss = float(trainer.callback_metrics["val_loss"])
        if loss < self.loss:
            self.loss, self.weights = loss, copy.deepcopy(pl_module.state_dict())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.load_state_dict(self.weights)


class ShiftedDigits(Classifier):
    """Moves every training image by up to 2 pixels and turns it by up to 15 degrees."""

    def augment(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        angle = torch.empty(len(inputs)).uniform_(-0.26, 0.26)
        shift = torch.empty(2, len(inputs)).uniform_(-2 / 14, 2 / 14)
        cos, sin = angle.cos(), angle.sin()
        moves = torch.stack([cos, -sin, shift[0], sin, cos, shift[1]], dim=1).view(-1, 2, 3)
        images = inputs.view(-1, 1, 28, 28)
        grid = F.affine_grid(moves, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, align_corners=False).flatten(1), targets


def split(x: Tensor, y: Tensor, seed: int, sizes: tuple[int, int, int]) -> Parts:
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    return [(x[part], y[part]) for part in torch.split(order[: sum(sizes)], list(sizes))]


def fit(model: LightningModule, parts: Parts, callbacks: Sequence[Callback], *, num_epochs: int) -> Figures:
    """Train on the first part, let callbacks read the second, and measure on the third."""
    train, val, test = (TensorDataset(*part) for part in parts)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=num_epochs,
        check_val_every_n_epoch=max(num_epochs // 50, 1),
        limit_val_batches=1.0 if any(not isinstance(c, DropoutScheduler) for c in callbacks) else 0,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, DataLoader(train, 32, shuffle=True, drop_last=True), DataLoader(val, 500))
    figures = trainer.test(model, DataLoader(test, 500), verbose=False)[0]
    return {name.removeprefix("test_"): figures[name] for name in ("test_loss", "test_accuracy") if name in figures}


def scheduled(method: str, rate: float) -> list[Callback]:
    """The callbacks of a row; nothing for none and constant, whose models have their rates."""
    if method == "adaptive":
        return [OverfittingMonitor(plot=False), AdaptiveDropout()]
    schedules = {"early": Early(rate, until=0.5), "late": Late(rate, after=0.5), "curriculum": Curriculum(rate)}
    return [DropoutScheduler(schedules[method])] if method in schedules else []


def diabetes(method: str, seed: int, epochs: Callable[[int], int]) -> Figures:
    parts = split(*diabetes_data(), seed, (242, 100, 100))
    network = MLP(10, 1, dropout=MLPDropout(input=0.0, hidden=0.0 if method == "none" else 0.5))
    return fit(Regressor(network), parts, scheduled(method, 0.5), num_epochs=epochs(150))


def mnist_high_rates(method: str, seed: int, epochs: Callable[[int], int]) -> Figures:
    network = MLP(784, 10, dropout=MLPDropout(input=0.0, hidden=float(method.removeprefix("rate "))))
    return fit(Classifier(network, num_classes=10), digits(seed), [], num_epochs=epochs(30))


def mnist(method: str, seed: int, epochs: Callable[[int], int]) -> Figures:
    network = MLP(784, 10, dropout=MLPDropout(input=0.0, hidden=0.0 if method == "none" else 0.5))
    callbacks = scheduled(method, 0.5)
    return fit(Classifier(network, num_classes=10), digits(seed), callbacks, num_epochs=epochs(30))


def digits(seed: int) -> Parts:
    return split(*mnist_data(), seed, (1000, 1000, 3000))


def century(method: str, seed: int, epochs: Callable[[int], int]) -> Figures:
    parts = passages(seed, num_passages=(1000, 500, 1500), num_words=48, vocab_size=2000)
    rate = 0.0 if method == "none" else 0.2
    network = Transformer(
        2000,
        num_layers=2,
        num_heads=4,
        dim=64,
        context_length=48,
        encoder=EncoderConfig(num_classes=len(CENTURIES), pooling="mean", padding_id=0),
        dropout=TransformerDropout(emb=rate, attn=rate, attn_sublayer=rate, ff=rate, ff_sublayer=rate),
    )
    model = Classifier(network, num_classes=len(CENTURIES))
    return fit(model, parts, scheduled(method, rate), num_epochs=epochs(20))


REGULARIZERS = ("dropout", "L2", "early stopping", "augmentation")


def regularizers(method: str, seed: int, epochs: Callable[[int], int]) -> Figures:
    """MNIST with none, one, all, or all but one."""
    if method.startswith("all"):
        used = {name for name in REGULARIZERS if method != f"all but {name}"}
    else:
        used = {method} & set(REGULARIZERS)
    network = MLP(784, 10, dropout=MLPDropout(input=0.0, hidden=0.5 if "dropout" in used else 0.0))
    kind = ShiftedDigits if "augmentation" in used else Classifier
    model = kind(network, num_classes=10, weight_decay=WEIGHT_DECAY if "L2" in used else 0.0)
    callbacks = [BestWeights()] if "early stopping" in used else []
    return fit(model, digits(seed), callbacks, num_epochs=epochs(30))


class FreshStatistics(Callback):
    """Takes the statistics of batch norm again with dropout off, as they are where the network is used."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        with find_sites(pl_module).override(0.0):
            update_bn(cast(Any, trainer.train_dataloader), cast(nn.Module, pl_module.network))


BATCH_NORM = {
    "none": CNNDropout(channel=0.0, head=0.0),
    "on the pooled features": CNNDropout(channel=0.0, head=0.2),
    "after the activation": CNNDropout(channel=0.2, head=0.0),
    "right after batch norm": CNNDropout(channel=0.2, head=0.0, after="norm"),
    "right before batch norm": CNNDropout(channel=0.0, head=0.0),
    "after the activation, statistics taken again": CNNDropout(channel=0.2, head=0.0),
    "no batch norm": CNNDropout(channel=0.0, head=0.0),
    "no batch norm, after the activation": CNNDropout(channel=0.2, head=0.0),
}


def batch_norm(method: str, seed: int, epochs: Callable[[int], int]) -> Figures:
    """A CNN on MNIST at half its resolution, whose channels are dropped at 0.2 in one of several places."""
    has_norm = not method.startswith("no batch norm")
    network = CNN(1, 10, widths=(16, 32, 32), batch_norm=has_norm, dropout=BATCH_NORM[method])
    if method == "right before batch norm":
        for block in network.blocks:
            block.norm = nn.Sequential(Dropout2d(0.2), cast(nn.Module, block.norm))
    callbacks = [FreshStatistics()] if method.endswith("statistics taken again") else []
    parts = [(F.avg_pool2d(x.view(-1, 1, 28, 28), 2), y) for x, y in digits(seed)]
    return fit(Classifier(network, num_classes=10, lr=1e-2), parts, callbacks, num_epochs=epochs(40))


def characters(dropout: TransformerDropout, num_chars: int, seed: int, num_steps: int) -> Figures:
    """A character model of the first characters of the addresses, tested on the last fifth of them."""
    data = TextData(context_length=32, batch_size=32, val_fraction=0.2, max_chars=num_chars, seed=seed)
    network = Transformer(data.vocab_size, num_layers=2, num_heads=4, dim=64, context_length=32, dropout=dropout)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=num_steps,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = LanguageModel(network, lr=2e-3)
    trainer.fit(model, data)
    test = trainer.test(model, data.val_dataloader(), verbose=False)[0]["test_loss"]
    return {"loss": test, "always the same guess": same_guess(data)}


def same_guess(data: TextData) -> float:
    """The test loss of predicting every character by how often it stands in the training text."""
    train, test = (torch.cat([y for _, y in loader]) for loader in (data.train_dataloader(), data.val_dataloader()))
    counts = torch.bincount(train.flatten(), minlength=data.vocab_size) + 1.0
    return -(counts / counts.sum()).log()[test].mean().item()


def sublayers(method: str, seed: int, epochs: Callable[[int], int]) -> Figures:
    size, state = method.split(" characters, ")
    rate = 0.1 if state == "on" else 0.0
    dropout = TransformerDropout(attn_sublayer=rate, ff_sublayer=rate)
    return characters(dropout, int(size.replace(",", "")), seed, epochs(1000))


def high_rates(method: str, seed: int, epochs: Callable[[int], int]) -> Figures:
    rate = float(method.removeprefix("rate "))
    dropout = TransformerDropout(emb=0.0, attn=0.0, attn_sublayer=rate, ff_sublayer=rate)
    return characters(dropout, 200_000, seed, epochs(600))
