from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning_dropout_callbacks import gap
from lightning_dropout_callbacks.gap import compare, metric_name
from lightning_dropout_callbacks.log_capture import LogCapture, Share, merge
from torchmetrics import MeanMetric
from torchmetrics.classification import BinaryAccuracy

DEFAULTS = {"on_epoch": None, "reduce_fx": "mean", "sync_dist": False, "add_dataloader_idx": True, "batch_size": None}


def captured(calls: list[tuple[str, Any, dict[str, Any]]], batch: Any = None) -> LogCapture:
    capture = LogCapture()
    capture.batch = batch
    for name, value, kwargs in calls:
        capture.log(name, value, **{**DEFAULTS, **kwargs})
    capture.collect()
    return capture


@pytest.mark.parametrize(
    ("logged", "name"),
    [
        ("val_loss", "loss"),
        ("val/loss", "loss"),
        ("validation/loss", "loss"),
        ("valid_loss", "loss"),
        ("eval-loss", "loss"),
        ("loss/val", "loss"),
        ("loss_val", "loss"),
        ("val_loss_epoch", "loss"),
        ("val_loss/dataloader_idx_0", "loss"),
        ("val_loss/dataloader_idx_1", "loss/dataloader_idx_1"),
        ("val_loss_epoch/dataloader_idx_2", "loss/dataloader_idx_2"),
        ("loss", "loss"),
        ("val", "val"),
        ("valuation", "valuation"),
        ("my/own_name", "my/own_name"),
    ],
)
def test_names_lose_what_says_validation(logged: str, name: str) -> None:
    assert metric_name(logged) == name


def test_values_are_weighted_by_the_given_or_found_batch_size() -> None:
    batch = {"x": torch.zeros(3, 2), "y": torch.zeros(3)}
    calls = [("given", 1.0, {"batch_size": 1}), ("given", torch.tensor(4.0), {"batch_size": 2}), ("found", 1.0, {})]
    capture = captured(calls, batch)
    assert capture.shares == {"given": Share(3.0, weight=3.0), "found": Share(1.0, weight=3.0)}


def test_reductions_and_levels_are_lightnings() -> None:
    calls = [(f"val_{fx}", value, {"reduce_fx": fx}) for fx in ("max", "min", "sum", "avg") for value in (1.0, 3.0)]
    calls += [("val_torch", value, {"reduce_fx": torch.max}) for value in (1.0, 3.0)]
    calls += [("val_step", 1.0, {"on_epoch": False})]
    values = {name.removeprefix("val_"): share.value for name, share in captured(calls).shares.items()}
    assert values == {"max": 3.0, "min": 1.0, "sum": 4.0, "avg": 2.0, "torch": 3.0}


def test_a_logged_value_is_taken_as_it_was() -> None:
    running, capture = torch.tensor(1.0), LogCapture()
    capture.log("val_x", running, **DEFAULTS)
    running += 1.0
    capture.collect()
    assert capture.shares["val_x"].value == 1.0


def test_metric_objects_are_computed_when_collected() -> None:
    mean, capture = MeanMetric(), LogCapture()
    capture.dataloader_idx = 1
    capture.log("val_x", mean, **DEFAULTS)
    mean.update(2.0)
    capture.collect()
    mean.reset()
    assert capture.shares == {"val_x/dataloader_idx_1": Share(2.0)}


def test_ranks_are_merged_by_their_reduction() -> None:
    assert merge([Share(1.0, 30), Share(4.0, 10)]) == 1.75
    assert merge([Share(1.0, 30, "sum"), Share(4.0, 10, "sum")]) == 5.0
    assert merge([Share(1.0, 30, "max"), Share(4.0, 10, "max")]) == 4.0
    assert merge([Share(1.0, 30, "min"), Share(4.0, 10, "min")]) == 1.0


def test_the_gap_is_positive_where_validation_is_worse() -> None:
    accuracy = BinaryAccuracy()
    accuracy.update(torch.tensor([1, 1]), torch.tensor([1, 0]))
    capture = captured([("val_loss", 1.0, {}), ("val_f1", 0.75, {}), ("val_score", accuracy, {}), ("other", 1.0, {})])
    validation = {name: torch.tensor(0.25) for name in ("val_loss", "val_f1", "val_score", "unrelated")}
    values = compare(capture, validation, {})
    assert {name: value for name, value in values.items() if "gap" in name} == {
        "overfit/gap_loss": -0.75,
        "overfit/gap_f1": 0.5,
        "overfit/gap_score": 0.25,
    }


def test_two_names_that_become_one_stay_two() -> None:
    capture = captured([("val_loss", 1.0, {}), ("loss", 2.0, {}), ("val/loss", 3.0, {})])
    values = compare(capture, dict.fromkeys(capture.shares, torch.tensor(0.0)), {})
    assert [values[f"overfit/train_{name}"] for name in ("val_loss", "loss", "val/loss")] == [1.0, 2.0, 3.0]


def test_validation_is_weighted_by_the_samples_each_rank_has_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = [("val_loss", 1.0, {}), ("val_sum", 1.0, {"reduce_fx": "sum"}), ("val_synced", 1.0, {"sync_dist": True})]
    shared: list[Any] = []
    monkeypatch.setattr(gap, "gather", lambda own: shared.append(own) or shared)
    for value, num_samples in ((1.0, 30), (5.0, 10)):
        capture = captured(calls)
        values = compare(capture, dict.fromkeys(capture.shares, torch.tensor(value)), {0: num_samples})
    assert (values["overfit/val_loss"], values["overfit/val_sum"], values["overfit/val_synced"]) == (2.0, 6.0, 2.0)
