from __future__ import annotations

from functools import cache

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from sklearn.datasets import load_diabetes
from torch.utils.data import DataLoader, TensorDataset

from lightning_dropout import MLP, MLPDropout, Regressor
from lightning_dropout.callbacks import AdaptiveDropout, OverfittingMonitor


class Flipped(AdaptiveDropout):
    def _measured(self, trainer: Trainer) -> tuple[float, float]:
        train, val = super()._measured(trainer)
        return val, train


@cache
def final_loss(kind: type[AdaptiveDropout] | None, rate: float) -> float:
    """The validation loss after the last step, from a fit that is long enough to learn 342 patients by heart."""
    seed_everything(0, verbose=False)
    x, y = (torch.as_tensor(array, dtype=torch.float32) for array in load_diabetes(return_X_y=True))
    x, y = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, val = (TensorDataset(x[part], y[part]) for part in (order[:342], order[342:]))
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=80,
        check_val_every_n_epoch=4,
        limit_val_batches=1.0 if kind else 0,
        callbacks=[OverfittingMonitor(plot=False), kind()] if kind else [],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    model = Regressor(MLP(10, 1, dropout=MLPDropout(input=0.0, hidden=rate)))
    trainer.fit(model, DataLoader(train, 32, shuffle=True, drop_last=True), DataLoader(val, 100))
    loss = model.eval().loss(model(x[order[342:]]), y[order[342:]]).item()
    return loss


def test_it_ends_no_worse_than_the_rate_that_it_starts_from_and_far_better_than_none() -> None:
    adaptive = final_loss(AdaptiveDropout, 0.5)
    assert adaptive < 1.03 * final_loss(None, 0.5)
    assert adaptive < 0.85 * final_loss(None, 0.0)


def test_with_the_sign_of_the_gap_flipped_it_does_harm() -> None:
    with pytest.raises(AssertionError):
        assert final_loss(Flipped, 0.5) < 1.03 * final_loss(None, 0.5)
