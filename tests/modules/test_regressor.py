import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from sklearn.datasets import load_diabetes
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_dropout.modules import Regressor


@pytest.mark.parametrize("num_targets", [1, 2])
def test_it_learns_diabetes_and_agrees_with_scikit_learn(num_targets):
    seed_everything(0)
    inputs, target = load_diabetes(return_X_y=True, scaled=True)
    inputs = torch.tensor(inputs / inputs.std(), dtype=torch.float32)
    target = torch.tensor((target - target.mean()) / target.std(), dtype=torch.float32)
    targets = target if num_targets == 1 else torch.stack([target, 3 - 2 * target], dim=1)
    train = DataLoader(TensorDataset(inputs[:300], targets[:300]), batch_size=30, shuffle=True)
    val = DataLoader(TensorDataset(inputs[300:], targets[300:]), batch_size=50)
    module = Regressor(nn.Linear(10, num_targets), lr=0.05)
    trainer = Trainer(
        accelerator="cpu", max_epochs=8, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, train, val)
    logged = {name: value.item() for name, value in trainer.callback_metrics.items()}
    predicted = module(inputs[300:]).detach().squeeze(-1)
    truth = targets[300:]
    assert logged["val_r2"] > 0.35
    assert logged["val_r2"] == pytest.approx(r2_score(truth, predicted), rel=1e-4)
    assert logged["val_mse"] == pytest.approx(mean_squared_error(truth, predicted), rel=1e-4)
    assert logged["val_mae"] == pytest.approx(mean_absolute_error(truth, predicted), rel=1e-4)
    assert logged["val_loss"] == pytest.approx(logged["val_mse"], rel=1e-4)


def test_a_column_of_outputs_is_never_broadcast_over_targets():
    targets = torch.tensor([1.0, 2.0, 3.0])
    module = Regressor(nn.Identity())
    assert module.loss(targets[:, None], targets) == 0
    assert module.loss(targets, targets[:, None]) == 0
    with pytest.raises(ValueError, match=r"outputs of shape \(3, 2\) for targets of shape \(3,\)\. Give a network"):
        module.loss(torch.zeros(3, 2), targets)


@pytest.mark.parametrize(("criterion", "loss"), [("mse", 9.0), ("mae", 3.0), ("huber", 2.5)])
def test_each_criterion_is_loss_and_disagreement(criterion, loss):
    module = Regressor(nn.Identity(), criterion=criterion)
    zeros, threes = torch.zeros(4), torch.full((4,), 3.0)
    assert module.loss(threes, zeros) == loss
    assert module.disagreement(threes, zeros, zeros) == loss


def test_an_unknown_criterion_is_refused():
    with pytest.raises(ValueError, match=r"criterion='l2'\) is unknown\. Give one of mse, mae, huber\."):
        Regressor(nn.Identity(), criterion="l2")
