from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_dropout.callbacks import MCDropout, ModeGuard
from lightning_dropout.uncertainty import MCPrediction


class Model(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3))
        self.modes: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def predict_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.modes += [module.training for module in self.net]
        return self(batch)


def predict(model: LightningModule, *callbacks: Callback, num_samples: int = 16, **kwargs: Any) -> Any:
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=list(callbacks), **kwargs,
    )  # fmt: skip
    data = torch.ones(num_samples, 4)
    return trainer.predict(model, DataLoader(data, batch_size=8))


def test_predict_returns_an_uncertainty_for_every_sample() -> None:
    predictions = predict(Model(), MCDropout(num_samples=10))
    assert [type(prediction) for prediction in predictions] == [MCPrediction, MCPrediction]
    assert predictions[0].mean.shape == (8, 3)
    assert predictions[0].mutual_information.shape == (8,)
    assert (predictions[0].mutual_information > 0).all()


def test_regression_gives_mean_and_variance() -> None:
    prediction = predict(Model(), MCDropout(10, task="regression", max_batch=8))[0]
    assert prediction.entropy is None
    assert (prediction.variance > 0).all()


def test_only_dropout_is_on_and_only_inside_predict_step() -> None:
    class Watch(Callback):
        def on_predict_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
            assert not any(module.training for module in pl_module.modules())

    model = Model().train()
    model.net[2].eval()
    before = [module.training for module in model.modules()]
    predict(model, MCDropout(), Watch())
    assert model.modes == 2 * [False, True, False]
    assert [module.training for module in model.modules()] == before
    assert "predict_step" not in vars(model)
    assert isinstance(predict(model)[0], Tensor)


def test_everything_comes_back_after_an_exception() -> None:
    class Failing(Model):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("user code")

    model = Failing()
    with pytest.raises(RuntimeError, match="user code"):
        predict(model, MCDropout())
    assert "predict_step" not in vars(model)
    assert not any(module.training for module in model.net)


def test_a_predict_step_that_was_set_on_the_module_itself_is_kept() -> None:
    model = Model()
    model.predict_step = own = lambda batch: model(batch)
    assert isinstance(predict(model, MCDropout())[0], MCPrediction)
    assert model.predict_step is own


def test_one_seed_gives_one_prediction_and_leaves_the_random_state_alone() -> None:
    class Draw(Callback):
        def __init__(self) -> None:
            self.drawn: list[float] = []

        def on_predict_batch_end(self, *args: Any) -> None:
            self.drawn.append(torch.rand(()).item())

    model, means, draws = Model(), [], []
    for seed, num_samples in ((0, 5), (0, 10), (0, 10), (1, 10)):
        seed_everything(seed)
        means.append(predict(model, MCDropout(num_samples), draw := Draw()))
        draws.append(draw.drawn)
    assert draws[0] == draws[1] == draws[2] != draws[3]
    assert means[1][0].mean.equal(means[2][0].mean)
    assert not means[1][0].mean.equal(means[3][0].mean)
    assert not means[1][0].mean.equal(means[1][1].mean), "batches of equal rows have masks of their own"


def test_a_model_without_dropout_is_refused() -> None:
    model = Model()
    model.net[1].p = 0.0
    with pytest.raises(ValueError, match=r"no dropout site with a rate above 0 in Model \(found: net at 0\)"):
        predict(model, MCDropout())


@pytest.mark.parametrize("settings", [{"num_samples": 0}, {"num_samples": 2.5}, {"task": "ranking"}, {"max_batch": 0}])
def test_arguments_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"MCDropout\({next(iter(settings))}="):
        MCDropout(**settings)


@pytest.mark.parametrize("num_samples", [8, 32])
def test_the_mode_guard_knows_that_it_is_meant(num_samples: int) -> None:
    guard = ModeGuard("raise")
    predict(Model(), MCDropout(), guard, num_samples=num_samples)
    assert guard.findings == []


SCRIPT = """
import torch
from lightning.pytorch import Trainer, seed_everything
from torch.utils.data import DataLoader
from test_mc_dropout import MCDropout, Model

seed_everything(0)
trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_checkpointing=False,
                  enable_progress_bar=False, enable_model_summary=False, callbacks=[MCDropout(10)])
predictions = trainer.predict(Model(), DataLoader(torch.ones(16, 4), batch_size=8))
result = predictions[0].mean.tolist(), torch.get_rng_state().tolist()
"""


def test_ranks_draw_different_samples_under_one_seed(run_ranks: Callable[..., Any]) -> None:
    means, states = zip(*run_ranks(SCRIPT, beside=__file__), strict=True)
    assert torch.tensor(means).shape == (2, 8, 3)
    assert means[0] != means[1]
    assert states[0] == states[1]
