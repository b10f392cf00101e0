from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from lightning_dropout_callbacks.random_transform import transforms_at_random
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, SequentialSampler, Subset, TensorDataset

from lightning_dropout.callbacks import OverfittingMonitor

X = torch.randn(30, 4, generator=torch.Generator().manual_seed(1))
Y = (X[:, 0] > 0).float()


class Transformed(Dataset[Any]):
    def __init__(self, transform: Callable[[Tensor], Any]) -> None:
        self.transform = transform

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: Any) -> Any:
        return self.transform(X[index]), Y[index]


def noise(x: Tensor) -> Tensor:
    return x + torch.randn_like(x)


def flip(x: Tensor) -> Tensor:
    return x.flip(-1) if random.random() < 0.5 else x


@pytest.mark.parametrize(
    ("loader", "is_random"),
    [
        (DataLoader(Transformed(noise)), True),
        (DataLoader(Transformed(flip), batch_size=4), True),
        (DataLoader(Transformed(lambda x: {"x": (x.numpy() * np.random.rand(),)}), batch_size=4), True),
        (DataLoader(Transformed(lambda x: x[: random.randint(1, 4)]), batch_size=1), True),
        (DataLoader(Subset(Transformed(noise), [3, 4])), True),
        (DataLoader(Transformed(noise), sampler=BatchSampler(SequentialSampler(X), 5, False), batch_size=None), True),
        (DataLoader(Transformed(noise), batch_size=None), True),
        (DataLoader(Transformed(lambda x: x / 0), batch_size=4), False),
        (DataLoader(Transformed(lambda x: {"x": x, "name": "a", "more": object()})), False),
        (DataLoader(TensorDataset(X), shuffle=True, collate_fn=lambda samples: noise(samples[0][0])), False),
    ],
)
def test_it_is_told_from_what_a_dataset_does(loader: DataLoader[Any], is_random: bool) -> None:
    assert transforms_at_random(loader) is is_random


def test_global_random_numbers_are_left_alone() -> None:
    states = []
    for _ in range(2):
        states.append((torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()))
        transforms_at_random(DataLoader(Transformed(lambda x: flip(noise(x)) * np.random.rand())))
    assert states[0] == states[1]


class Model(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.mse_loss(self.net(batch[0])[:, 0], batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", F.mse_loss(self.net(batch[0])[:, 0], batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def warnings_of_fit(train: Dataset[Any], val: Dataset[Any], folder: Path) -> list[str]:
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[OverfittingMonitor(plot=False)],
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(Model(), DataLoader(train, 10, shuffle=True), [DataLoader(val, 10)])
    return [str(warning.message) for warning in caught if "OverfittingMonitor" in str(warning.message)]


def test_a_transform_of_the_training_data_alone_is_warned_about_once(tmp_path: Path) -> None:
    plain = TensorDataset(X, Y)
    assert warnings_of_fit(Transformed(noise), plain, tmp_path) == [
        "OverfittingMonitor read a training sample twice and got two different ones: the training data is transformed "
        "at random, and the validation data is not. The gap would be that of unlike data. Pass train_dataloader= with "
        "training samples that are prepared as those of validation are."
    ]
    assert warnings_of_fit(plain, plain, tmp_path) == []
    assert warnings_of_fit(Transformed(noise), Transformed(noise), tmp_path) == []
