from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning_dropout_callbacks.rank_seed import _data_parallel_rank, step_seed
from torch.utils.data import DataLoader

from lightning_dropout.callbacks import RankSeed

pytestmark = pytest.mark.filterwarnings("ignore:You.re resuming from a checkpoint that ended before the epoch ended")


class Model(BoringModel):
    """Records the first random number and the first sample of every step."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[float] = []
        self.samples: list[float] = []

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(torch.arange(6.0)[:, None].expand(6, 32), shuffle=True)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.drawn.append(torch.rand(()).item())
        self.samples.append(batch[0, 0].item())
        return super().training_step(batch, batch_idx)


def fit(model: LightningModule, *callbacks: Callback, ckpt_path: Any = None, **kwargs: Any) -> Trainer:
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=kwargs.pop("max_epochs", 2),
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **kwargs,
    )
    trainer.fit(model, ckpt_path=ckpt_path)
    return trainer


@given(st.integers(0, 2**32), st.integers(0, 2**32), st.integers(0, 1000))
def test_a_step_seed_is_one_that_torch_takes_and_no_other_step_has(seed: int, batch: int, rank: int) -> None:
    own = step_seed(seed, batch, rank)
    torch.Generator().manual_seed(own)
    assert own not in (
        step_seed(seed, batch, rank + 1),
        step_seed(seed, batch + 1, rank),
        step_seed(seed + 1, batch, rank),
    )


def test_every_step_draws_anew_and_every_run_the_same() -> None:
    drawn = []
    for _ in range(2):
        model = Model()
        fit(model, RankSeed(3))
        drawn.append(model.drawn)
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 12


def test_the_default_seed_is_that_of_seed_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")
    default, given_seed = Model(), Model()
    fit(default, RankSeed())
    fit(given_seed, RankSeed(3))
    assert default.drawn == given_seed.drawn


def test_a_resumed_run_draws_what_the_uninterrupted_one_does_and_sees_its_data(tmp_path: Path) -> None:
    class SaveAt(Callback):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            trainer.save_checkpoint(tmp_path / f"{trainer.current_epoch}.ckpt")

    whole, resumed = Model(), Model()
    fit(whole, RankSeed(3), SaveAt(), max_epochs=3)
    torch.manual_seed(99)
    fit(resumed, RankSeed(3), max_epochs=3, ckpt_path=tmp_path / "0.ckpt")
    assert len(resumed.drawn) == 12
    assert resumed.drawn == whole.drawn[6:]
    assert resumed.samples == whole.samples[6:]
    assert whole.samples[:6] != whole.samples[6:12]


def test_random_numbers_outside_of_the_step_are_left_alone() -> None:
    after = []
    for callbacks in ([], [RankSeed(3)]):
        torch.manual_seed(1)
        model = BoringModel()
        fit(model, *callbacks, limit_train_batches=3)
        after.append([torch.rand(3), *(parameter.detach() for parameter in model.parameters())])
    assert all(map(torch.equal, *after))


def test_an_exception_in_a_step_gives_the_random_numbers_back() -> None:
    class Failing(Model):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            raise RuntimeError("user code")

    torch.manual_seed(1)
    with pytest.raises(RuntimeError, match="user code"):
        fit(Failing(), RankSeed(3), limit_train_batches=1)
    state = torch.get_rng_state()
    torch.manual_seed(step_seed(3, 0, 0))
    assert not torch.equal(state, torch.get_rng_state())


def test_replicas_of_one_data_parallel_rank_share_it() -> None:
    def module(data: int) -> Any:
        return SimpleNamespace(device_mesh={"data_parallel": SimpleNamespace(get_local_rank=lambda: data)})

    ranks = [_data_parallel_rank(SimpleNamespace(global_rank=r), module(r // 2)) for r in range(4)]  # type: ignore[arg-type]
    assert ranks == [0, 0, 1, 1]


SCRIPT = """
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning_dropout.callbacks import RankSeed

class Model(BoringModel):
    drawn = []
    def training_step(self, batch, batch_idx):
        self.drawn.append(torch.rand(()).item())
        return super().training_step(batch, batch_idx)

seed_everything(1)
weights = [p.sum().item() for p in Model().parameters()]
trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, limit_train_batches=3, logger=False,
                  limit_val_batches=0, enable_checkpointing=False, enable_progress_bar=False, callbacks=[RankSeed()])
trainer.fit(Model())
result = weights, Model.drawn
"""


def test_two_ranks_draw_different_numbers_from_the_same_seed(run_ranks: Callable[..., Any]) -> None:
    (weights0, drawn0), (weights1, drawn1) = run_ranks(SCRIPT)
    assert weights0 == weights1
    assert len({*drawn0, *drawn1}) == 6


@pytest.mark.parametrize("seed", [-1, 1.5, "a"])
def test_a_seed_that_is_no_whole_number_is_refused(seed: Any) -> None:
    with pytest.raises(ValueError, match=r"RankSeed\(seed=.*\): give a whole number from 0 on"):
        RankSeed(seed)
