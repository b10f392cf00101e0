from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lightning_dropout.layers import DropConnect, Dropout, DropPath, EmbeddingDropout, LayerDropout, LockedDropout
from lightning_dropout.sites import find_sites
from lightning_dropout.uncertainty import mc_predict, sampling_dropout, summarize_samples


def network(dropout: nn.Module | None = None) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), dropout or nn.Dropout(0.5), nn.Linear(16, 3)
    ).train()


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(2, 5), st.floats(0.1, 20.0))
def test_classification_is_summed_up_as_numpy_does(num_samples: int, num_classes: int, scale: float) -> None:
    logits = scale * torch.randn(num_samples, 7, num_classes, generator=torch.Generator().manual_seed(num_samples))
    p = np.exp(logits.double().numpy())
    p /= p.sum(-1, keepdims=True)
    entropy = -(p.mean(0) * np.log(p.mean(0))).sum(-1)
    expected = -(p * np.log(p)).sum(-1).mean(0)
    prediction = summarize_samples(logits)
    np.testing.assert_allclose(prediction.mean, p.mean(0), atol=1e-5)
    np.testing.assert_allclose(prediction.variance, p.var(0), atol=1e-5)
    np.testing.assert_allclose(prediction.entropy, entropy, atol=1e-5)
    np.testing.assert_allclose(prediction.mutual_information, entropy - expected, atol=1e-5)
    assert (prediction.mutual_information >= 0.0).all()


def test_regression_has_a_mean_and_a_variance() -> None:
    samples = torch.randn(10, 5)
    prediction = summarize_samples(samples, task="regression")
    np.testing.assert_allclose(prediction.mean, samples.numpy().mean(0), atol=1e-6)
    np.testing.assert_allclose(prediction.variance, samples.numpy().var(0), atol=1e-6)
    assert prediction.entropy is None
    assert prediction.mutual_information is None


def test_a_single_logit_is_that_of_the_second_class() -> None:
    logits = torch.randn(10, 5, 1)
    assert summarize_samples(logits).mean[:, 1].allclose(logits.sigmoid().mean(0)[:, 0])


def test_masked_classes_and_half_precision_give_finite_numbers() -> None:
    logits = torch.randn(4, 2, 3).half()
    logits[..., 0] = -torch.inf
    prediction = summarize_samples(logits)
    assert prediction.mean.dtype == torch.float32
    assert all(part.isfinite().all() for part in prediction)


def test_only_dropout_is_on_and_everything_is_as_it_was_afterwards() -> None:
    model, x = network(), torch.randn(8, 4)
    model[0].eval()
    before, statistics = modes(model), {name: t.clone() for name, t in model.state_dict().items()}
    with sampling_dropout(model) as sites:
        assert [module.training for module in model] == [False, False, False, True, False]
        assert [site.name for site in sites] == ["3"]
        assert not model(x).equal(model(x))
    mc_predict(model, x)
    assert modes(model) == before
    assert all(t.equal(statistics[name]) for name, t in model.state_dict().items())


def test_modes_come_back_after_an_exception() -> None:
    model = network()
    before, fused = modes(model), torch.backends.mha.get_fastpath_enabled()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        mc_predict(model, torch.randn(8, 5))
    assert modes(model) == before
    assert torch.backends.mha.get_fastpath_enabled() == fused


class Attention(nn.MultiheadAttention):
    """An owner of a rate that has a batch norm inside, and a train() that nobody asked for."""

    def __init__(self) -> None:
        super().__init__(8, 2, dropout=0.5, batch_first=True)
        self.norm = nn.BatchNorm1d(8)

    def train(self, mode: bool = True) -> Attention:
        raise AssertionError("train() was called")

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x, x, x)[0] + self.norm(x.mean(1)).unsqueeze(1)


def test_batch_norm_inside_an_owner_of_a_rate_stays_in_eval() -> None:
    model, x = Attention(), torch.randn(3, 5, 8)
    with sampling_dropout(model):
        assert model.training
        assert not model.norm.training
    assert model.norm.training
    mc_predict(model, x, 3)
    assert model.norm.num_batches_tracked == 0


def test_the_fused_encoder_of_torch_drops_too() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5, batch_first=True)
    prediction = mc_predict(nn.TransformerEncoder(layer, 2).eval(), torch.randn(4, 3, 8), 5)
    assert (prediction.variance > 0).all()


class Scaled(nn.Module):
    """Returns one number per row: what dropout leaves of a one."""

    def __init__(self, dropout: nn.Module) -> None:
        super().__init__()
        self.dropout = dropout
        self.calls: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(len(x))
        if isinstance(self.dropout, LayerDropout):
            return self.dropout(x, 0.0 * x)
        if isinstance(self.dropout, EmbeddingDropout):
            weights = nn.Embedding.from_pretrained(torch.ones(1, 1))
            return self.dropout(weights, torch.zeros(len(x), dtype=torch.long))
        return self.dropout(x)


def identity() -> nn.Linear:
    linear = nn.Linear(1, 1, bias=False)
    nn.init.ones_(linear.weight)
    return linear


@pytest.mark.parametrize(
    "dropout",
    [LayerDropout(0.5), DropPath(0.5, mode="batch"), EmbeddingDropout(0.5), DropConnect(identity(), 0.5)],
    ids=lambda dropout: type(dropout).__name__,
)
def test_kinds_with_one_mask_per_call_run_once_per_sample(dropout: nn.Module) -> None:
    model = Scaled(dropout)
    prediction = mc_predict(model, torch.ones(3, 1), 200, task="regression")
    assert model.calls == [3] * 200
    drawn = prediction.mean / prediction.mean.max()
    assert drawn.unique().numel() == 1, "rows of one sample share the mask"
    assert prediction.variance.min() > 0.1, "samples do not"


@pytest.mark.parametrize("dropout", [nn.Dropout(0.5), Dropout(0.5), DropPath(0.5)])
def test_samples_of_other_kinds_run_as_one_batch(dropout: nn.Module) -> None:
    model = Scaled(dropout)
    prediction = mc_predict(model, torch.ones(30, 1), 200, task="regression")
    assert model.calls == [30 * 200]
    assert prediction.mean.mean().item() == pytest.approx(1.0, abs=0.1)
    assert prediction.mean.unique().numel() > 1, "every row has masks of its own"


def test_locked_dropout_draws_a_mask_for_every_sample() -> None:
    model = Scaled(LockedDropout(0.5))
    assert mc_predict(model, torch.ones(2, 5, 8), 50, task="regression").variance.min() > 0.2
    assert model.calls == [100]


@pytest.mark.parametrize(("max_batch", "calls"), [(None, [30]), (9, [9, 9, 9, 3]), (8, [6] * 5), (1, [3] * 10)])
def test_rows_of_one_call_are_bounded(max_batch: int | None, calls: list[int]) -> None:
    model = Scaled(nn.Dropout(0.5))
    prediction = mc_predict(model, torch.ones(3, 1), 10, task="regression", max_batch=max_batch)
    assert model.calls == calls
    assert prediction.mean.shape == (3, 1)


def test_rows_of_a_batch_stay_together() -> None:
    model = nn.Sequential(nn.Dropout(1e-9))
    x = torch.randn(5, 2)
    assert mc_predict(model, x, 4, task="regression").mean.equal(x)


def test_batches_come_as_tensors_pairs_or_keywords() -> None:
    class Output(dict[str, Any]):
        @property
        def logits(self) -> Tensor:
            return self["logits"]

    class Model(nn.Sequential):
        def forward(self, x: Tensor, *, scale: Tensor | None = None) -> Any:
            assert scale is None or scale.dim() == 0
            return super().forward(x) if scale is None else Output(logits=super().forward(x))

    model, x = Model(*network()), torch.randn(8, 4)
    for batch in (x, (x, torch.zeros(8)), [x], {"x": x, "scale": torch.tensor(1.0)}):
        assert mc_predict(model, batch, 3).mean.shape == (8, 3)
    assert mc_predict(model, {"in": x}, 3, forward=lambda batch: model(batch["in"])).mean.shape == (8, 3)


def test_more_masks_are_no_more_certain_than_the_rate_allows() -> None:
    model, x = network(), torch.randn(8, 4)
    with find_sites(model).override(0.9):
        high = mc_predict(model, x, 200)
    with find_sites(model).override(0.01):
        low = mc_predict(model, x, 200)
    assert (high.mutual_information > low.mutual_information).all()


def test_one_seed_gives_one_prediction() -> None:
    model, x = network(), torch.randn(8, 4)
    means = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        means.append(mc_predict(model, x, 5).mean)
    assert means[0].equal(means[1])
    assert not means[0].equal(means[2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: mc_predict(network(nn.Dropout(0.0)), x), r"no dropout site with a rate above 0 in Sequential"),
        (lambda x: mc_predict(nn.Linear(4, 3), x), r"found: no site at all"),
        (lambda x: mc_predict(network(), x, 0), "num_samples=0.*give a whole number from 1 on"),
        (lambda x: mc_predict(network(), x, 2.5), "num_samples=2.5.*give a whole number from 1 on"),
        (lambda x: mc_predict(network(), x, max_batch=0), "max_batch=0.*give a whole number of rows"),
        (lambda x: mc_predict(network(), x, task="ranking"), "task='ranking' is unknown"),
        (lambda x: mc_predict(network(), x, forward=lambda b: network()(b)[:, 0]), "Pass task='regression'"),
        (lambda x: mc_predict(network(), x, forward=lambda b: b.mean(0)), r"80 rows .* shape \(4,\). Pass max_batch=1"),
        (lambda x: mc_predict(network(), x, forward=lambda b: [b]), "needs a tensor and got list. Pass forward="),
        (lambda x: mc_predict(network(), "text"), "no tensor with a batch dimension in a batch of type str"),
    ],
)
def test_what_cannot_be_sampled_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(torch.randn(4, 4))


def test_on_real_digits_the_certain_half_is_more_often_right() -> None:
    from sklearn.datasets import load_digits

    torch.manual_seed(0)
    x, y = (torch.as_tensor(part) for part in load_digits(return_X_y=True))
    x, order = x.float() / 16, torch.randperm(len(x))
    train, test = order[:900], order[900:]
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[train]), y[train]).backward()
        optimizer.step()
    prediction = mc_predict(model, x[test], 50)
    right = (prediction.mean.argmax(1) == y[test]).float()
    certain = prediction.mutual_information.argsort()[: len(test) // 2]
    assert right[certain].mean() > right.mean() + 0.02
