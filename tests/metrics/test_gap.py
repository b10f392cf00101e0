from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import Accuracy, MeanMetric, MeanSquaredError, Metric, MetricCollection

from lightning_dropout.metrics import CalibrationGap, DropoutNoise, GeneralizationGap, generalization_gap


def mse(preds: np.ndarray, target: np.ndarray) -> float:
    return float(((preds - target) ** 2).mean())


def accuracy(logits: np.ndarray, target: np.ndarray) -> float:
    return float((logits.argmax(1) == target).mean())


def calibration_error(logits: np.ndarray, target: np.ndarray, num_bins: int = 15) -> float:
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == target
    bins = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
    return sum(
        abs(correct[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)
    )


def regression(num_samples: int, seed: int) -> tuple[Tensor, Tensor]:
    return torch.randn(2, num_samples, generator=torch.Generator().manual_seed(seed)).unbind()


def classification(num_samples: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_samples, 4, generator=generator), torch.randint(4, (num_samples,), generator=generator)


def fill(gap: Metric, data: dict[str, tuple[Tensor, Tensor]], keyword: str) -> Metric:
    for condition, (preds, target) in data.items():
        for batch in zip(preds.split(7), target.split(7), strict=True):
            gap.update(*batch, **{keyword: condition})
    return gap


@pytest.mark.parametrize(
    ("gap", "sample", "reference", "sign"),
    [
        (GeneralizationGap(MeanSquaredError()), regression, mse, 1),
        (GeneralizationGap(Accuracy("multiclass", num_classes=4)), classification, accuracy, -1),
        (CalibrationGap(num_classes=4), classification, calibration_error, 1),
    ],
    ids=["error", "accuracy", "calibration"],
)
def test_the_gap_is_that_of_numpy(gap: Metric, sample: Callable, reference: Callable, sign: int) -> None:
    data = {"train": sample(40, 0), "val": sample(25, 1)}
    values = {split: reference(preds.numpy(), target.numpy()) for split, (preds, target) in data.items()}
    assert fill(gap, data, "split").compute().item() == pytest.approx(
        sign * (values["val"] - values["train"]), rel=1e-5
    )


def test_noise_is_train_mode_minus_eval_mode() -> None:
    data = {"train": regression(40, 0), "eval": regression(40, 1)}
    values = {mode: mse(preds.numpy(), target.numpy()) for mode, (preds, target) in data.items()}
    noise = fill(DropoutNoise(MeanSquaredError()), data, "mode").compute()
    assert noise.item() == pytest.approx(values["train"] - values["eval"], rel=1e-5)


def test_noise_of_a_dropout_layer_is_its_variance() -> None:
    layer, x = torch.nn.Dropout(0.2), torch.ones(100_000)
    noise = DropoutNoise(MeanSquaredError())
    noise.update(layer.train()(x), x, mode="train")
    noise.update(layer.eval()(x), x, mode="eval")
    assert noise.compute().item() == pytest.approx(0.2 / 0.8, rel=0.03)


def test_calling_returns_the_value_of_the_batch_and_updates() -> None:
    gap = GeneralizationGap(MeanSquaredError())
    assert gap(torch.tensor([2.0]), torch.tensor([0.0]), split="train") == 4.0
    assert gap(torch.tensor([3.0]), torch.tensor([0.0]), split="val") == 9.0
    assert gap.compute() == 5.0
    assert copy.deepcopy(gap).compute() == 5.0


def test_reset_forgets_both_parts() -> None:
    gap = GeneralizationGap(MeanMetric(), higher_is_better=False, num_val_samples=2)
    for value in (1.0, 3.0):
        gap.update(torch.tensor([0.0]), split="train")
        gap.update(torch.tensor([value, value]), split="val")
        assert gap.compute() == value
        gap.reset()


def test_padding_is_left_out_where_the_number_of_samples_is_known() -> None:
    gap = GeneralizationGap(MeanMetric(), higher_is_better=False, num_train_samples=3, num_val_samples=1)
    for batch in (torch.tensor([1.0, 2.0]), torch.tensor([6.0, 99.0]), torch.tensor([99.0])):
        gap.update(batch, split="train")
    gap.update(torch.tensor([4.0, 99.0]), split="val")
    assert gap.compute() == 4.0 - 3.0


def test_what_cannot_be_cut_is_refused() -> None:
    gap = GeneralizationGap(MeanMetric(), higher_is_better=False, num_val_samples=3)
    with pytest.raises(ValueError, match="nothing that has a batch dimension"):
        gap.update(torch.tensor(1.0), split="val")


def test_a_metric_without_a_sign_needs_one() -> None:
    with pytest.raises(ValueError, match="MeanMetric.* does not say whether higher is better. Pass higher_is_better="):
        GeneralizationGap(MeanMetric())


@pytest.mark.parametrize(
    ("metric", "keywords", "message"),
    [
        (GeneralizationGap(MeanSquaredError()), {"split": "test"}, "split='test'. Give 'train' or 'val'"),
        (DropoutNoise(MeanSquaredError()), {"mode": "val"}, "mode='val'. Give 'train' or 'eval'"),
    ],
)
def test_an_unknown_part_is_refused(metric: Metric, keywords: dict[str, str], message: str) -> None:
    for method in (metric.update, metric.forward):
        with pytest.raises(ValueError, match=message):
            method(torch.zeros(1), torch.zeros(1), **keywords)


def test_only_single_metrics_can_be_wrapped() -> None:
    with pytest.raises(ValueError, match="DropoutNoise got MetricCollection. Wrap one torchmetrics.Metric"):
        DropoutNoise(MetricCollection([MeanSquaredError()]))


def test_numbers_have_a_gap_too() -> None:
    assert generalization_gap(0.5, 0.75) == 0.25
    assert generalization_gap(0.5, 0.75, higher_is_better=True) == -0.25


def test_plots_with_matplotlib() -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    gap = fill(GeneralizationGap(MeanSquaredError()), {"train": regression(8, 0), "val": regression(8, 1)}, "split")
    figure, axis = gap.plot()
    gap.plot([torch.tensor(0.1), torch.tensor(0.2)], ax=axis)
    assert len(axis.lines) == 2
    plt.close(figure)


def test_a_lightning_module_logs_it_and_starts_every_epoch_anew() -> None:
    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))
            self.gap = GeneralizationGap(MeanSquaredError())
            self.logged: list[float] = []

        def training_step(self, batch: list[Tensor]) -> Tensor:
            self.gap.update(self.weight.detach() * batch[0], batch[0], split="train")
            return self.weight

        def validation_step(self, batch: list[Tensor]) -> None:
            self.gap.update(self.weight * batch[0], 2 * batch[0], split="val")

        def on_train_epoch_end(self) -> None:
            self.logged.append(self.gap.compute().item())
            self.log("gap", self.gap)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.0)

    module, data = Module(), DataLoader(TensorDataset(torch.ones(4)))
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(module, data, data)
    assert module.logged == [3.0, 3.0]
    assert trainer.callback_metrics["gap"] == 3.0
