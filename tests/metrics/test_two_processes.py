"""Two ranks, one with more samples than the other, report what one process reports on all of the data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.utils.data import DistributedSampler
from torchmetrics import Accuracy, MeanMetric, MeanSquaredError, Metric

from lightning_dropout.metrics import CalibrationGap, DropoutNoise, GeneralizationGap

NUM_SAMPLES = {"train": 21, "val": 13, "noise": 20}  # a sampler for two ranks has to pad the odd ones
LOGITS = torch.randn(21, 4, generator=torch.Generator().manual_seed(0))
TARGETS = torch.arange(21) % 4
SIZES = {"num_train_samples": NUM_SAMPLES["train"], "num_val_samples": NUM_SAMPLES["val"]}


def metrics() -> dict[str, Metric]:
    return {
        "error": GeneralizationGap(MeanSquaredError(), **SIZES),
        "mean": GeneralizationGap(MeanMetric(), higher_is_better=False, **SIZES),
        "accuracy": GeneralizationGap(Accuracy("multiclass", num_classes=4), **SIZES),
        "calibration": CalibrationGap(num_classes=4, **SIZES),
        "noise": DropoutNoise(MeanSquaredError()),
        "biased": GeneralizationGap(MeanMetric(), higher_is_better=False),
    }


def values(indices: dict[str, list[int]]) -> dict[str, float]:
    found = metrics()
    for split in ("train", "val"):
        chosen = indices[split]
        logits, targets = LOGITS[chosen], TARGETS[chosen]
        for size in (slice(0, 5), slice(5, None)):
            x, y = logits[size], targets[size]
            found["error"].update(x[:, 0], y.float(), split=split)
            found["mean"].update(x[:, 0], split=split)
            found["accuracy"].update(x, y, split=split)
            found["calibration"].update(x, y, split=split)
            found["biased"].update(x[:, 0], split=split)
    x, y = LOGITS[indices["noise"], 0], TARGETS[indices["noise"]].float()
    found["noise"].update(2 * x, y, mode="train")
    found["noise"].update(x, y, mode="eval")
    return {name: metric.compute().item() for name, metric in found.items()}


def run_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    indices = {
        name: list(DistributedSampler(range(size), num_replicas=2, rank=rank, shuffle=True))
        for name, size in NUM_SAMPLES.items()
    }
    torch.save(values(indices), f"{folder}/{rank}.pt")
    dist.barrier()
    os._exit(0)  # gloo's threads can abort a normal exit


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, float]]:
    folder: Path = tmp_path_factory.mktemp("ranks")
    mp.spawn(run_rank, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.fixture(scope="module")
def alone() -> dict[str, float]:
    return values({name: list(range(size)) for name, size in NUM_SAMPLES.items()})


@pytest.mark.parametrize("name", ["error", "mean", "accuracy", "calibration", "noise"])
def test_two_processes_report_what_one_reports(
    ranks: list[dict[str, float]], alone: dict[str, float], name: str
) -> None:
    assert ranks[0][name] == ranks[1][name] == pytest.approx(alone[name], rel=1e-5)


def test_without_the_number_of_samples_padding_biases_the_gap(
    ranks: list[dict[str, float]], alone: dict[str, float]
) -> None:
    assert ranks[0]["biased"] == ranks[1]["biased"] != pytest.approx(alone["mean"], rel=1e-3)
