"""Ranks that disagree, and ranks that agree too much. ddp runs a script: it would run pytest again on rank 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

SCRIPT = """
import sys, warnings
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.fsdp import fully_shard
from lightning_dropout.callbacks import DropoutModeError, ModeGuard, RankSeed


class Model(BoringModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(32, 32), nn.Dropout(0.1), nn.Linear(32, 2))

    def configure_model(self):
        if self.device_mesh is not None:
            fully_shard(self.layer, mesh=self.device_mesh["data_parallel"])


class SeededByRank(Model):
    def on_train_batch_start(self, batch, batch_idx):
        torch.manual_seed(batch_idx + 100 * self.global_rank)


class Disagreeing(SeededByRank):
    def on_train_start(self):
        self.layer[1].p += 0.1 * self.global_rank


class LeakingOnRank1(SeededByRank):
    def validation_step(self, batch, batch_idx):
        return super().validation_step(F.dropout(batch, 0.3) if self.global_rank == 1 else batch, batch_idx)


class EvalOnRank1(SeededByRank):
    def setup(self, stage):
        self.layer.train(self.global_rank == 0)


def run(model, reaction="warn", callbacks=()):
    seed_everything(0, verbose=False)
    sharded = ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1)
    strategy = sharded if sys.argv[1] == "fsdp2" else "ddp"
    guard = ModeGuard(reaction)
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy=strategy, max_epochs=1, limit_train_batches=4, limit_val_batches=3,
        num_sanity_val_steps=0, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[guard, *callbacks],
    )
    error = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            trainer.fit(model)
        except DropoutModeError as raised:
            error = str(raised)
    messages = [str(w.message) for w in caught if "ModeGuard" in str(w.message)]
    return {"steps": trainer.global_step, "error": error, "findings": guard.findings, "warnings": messages}


result = {
    "same_seed": run(Model()),
    "seeded_by_rank": run(SeededByRank()),
    "rank_seed": run(Model(), callbacks=[RankSeed()]),
    "disagreeing": run(Disagreeing()),
    "leaking_on_rank_1": run(LeakingOnRank1(), "raise"),
    "eval_on_rank_1": run(EvalOnRank1(), "raise"),
}
"""


@pytest.fixture(scope="module", params=["ddp", "fsdp2"])
def ranks(request: pytest.FixtureRequest, run_ranks: Callable[..., list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return run_ranks(SCRIPT, request.param)


def of(ranks: list[dict[str, Any]], case: str, what: str) -> list[Any]:
    return [rank[case][what] for rank in ranks]


def test_equal_masks_on_all_ranks_are_warned_of_once(ranks: list[dict[str, Any]]) -> None:
    first, second = of(ranks, "same_seed", "warnings")
    (message,) = first
    assert message.startswith("ModeGuard: 2 ranks draw the same dropout masks for different data")
    assert "Add RankSeed()" in message
    assert second == []
    assert of(ranks, "same_seed", "findings") == [[], []]


@pytest.mark.parametrize("case", ["seeded_by_rank", "rank_seed"])
def test_ranks_with_masks_of_their_own_are_left_in_peace(ranks: list[dict[str, Any]], case: str) -> None:
    assert of(ranks, case, "warnings") == [[], []]


def test_sites_on_which_ranks_disagree_are_named(ranks: list[dict[str, Any]]) -> None:
    assert (
        of(ranks, "disagreeing", "findings")
        == [
            [
                "Ranks do not agree about dropout: 'layer.1' is at rate 0.1 in train mode on rank 0 and at rate 0.2 in "
                "train mode on rank 1. Set modes and rates from values that are the same on all ranks."
            ]
        ]
        * 2
    )


def test_what_one_rank_finds_raises_on_all(ranks: list[dict[str, Any]]) -> None:
    (error,) = set(of(ranks, "leaking_on_rank_1", "error"))
    assert error.startswith("Dropout is active in validation: F.dropout with rate 0.3")
    assert error.endswith("Found on rank 1 of 2.")


def test_a_mode_on_one_rank_raises_before_the_first_step(ranks: list[dict[str, Any]]) -> None:
    (error,) = set(of(ranks, "eval_on_rank_1", "error"))
    assert error.startswith("1 dropout site with a rate above 0 is in eval mode at the start of training")
    assert error.endswith("Found on rank 1 of 2.")
    assert of(ranks, "eval_on_rank_1", "steps") == [0, 0]
