import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_dropout.modules import LanguageModel
from lightning_dropout.modules.optimization import decay_groups, warmup_cosine, warmup_steps


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 7)
        self.head.weight = self.embedding.weight


def test_a_tied_parameter_stands_in_one_group_once():
    decayed, plain = decay_groups(Tied(), 0.1)
    assert [tuple(p.shape) for p in decayed["params"]] == [(7, 4)]
    assert [tuple(p.shape) for p in plain["params"]] == [(4,), (4,), (7,)]
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)


def test_frozen_parameters_stand_in_no_group():
    network = Tied()
    network.norm.requires_grad_(False)
    network.head.bias.requires_grad_(False)
    assert [len(group["params"]) for group in decay_groups(network, 0.1)] == [1]


@settings(max_examples=100)
@given(
    total=st.integers(1, 10_000),
    warmup=st.one_of(st.floats(0, 0.99), st.integers(1, 10_000)),
    floor=st.floats(0, 1),
)
def test_the_factor_rises_to_one_then_falls_to_the_floor(total, warmup, floor):
    warmup = warmup_steps(warmup, total)
    factors = [warmup_cosine(step, warmup=warmup, total=total, floor=floor) for step in range(0, total + 1)]
    assert all(0 < factor <= 1 or factor == pytest.approx(floor) for factor in factors)
    rise, fall = factors[:warmup], factors[warmup:]
    assert rise == sorted(rise)
    assert fall == sorted(fall, reverse=True)
    if fall[:-1]:
        assert fall[0] == 1
        assert fall[-1] == pytest.approx(floor)


def fit(network, **trainer_settings):
    ids = torch.zeros(8, 3, dtype=torch.long)
    data = DataLoader(TensorDataset(ids, ids))
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0, **trainer_settings,
    )  # fmt: skip
    module = LanguageModel(network, lr=0.1, warmup=2)
    rates = []
    module.on_train_batch_start = lambda *_: rates.append(module.optimizers().param_groups[0]["lr"])
    trainer.fit(module, data, data)
    return rates


def test_the_learning_rate_counts_optimizer_steps_and_not_batches():
    network = nn.Sequential(nn.Embedding(3, 4), nn.Linear(4, 3))
    expected = [0.1 * warmup_cosine(step, warmup=2, total=4, floor=0.1) for step in range(4)]
    assert fit(network, max_epochs=1, accumulate_grad_batches=2)[::2] == pytest.approx(expected)


def test_an_endless_run_is_refused():
    with pytest.raises(ValueError, match=r"max_epochs=-1, max_steps=-1\) has no known end\. Set max_steps="):
        fit(nn.Sequential(nn.Embedding(3, 4), nn.Linear(4, 3)), max_epochs=-1)
