"""Whether a classifier knows when it is right: accuracy by how certain it is under many dropout masks."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor

from lightning_dropout.callbacks import MCDropout
from lightning_dropout.uncertainty import mc_predict

__all__ = ["certainty_rows"]


def certainty_rows(
    module: LightningModule, data: LightningDataModule, callback: MCDropout
) -> Iterator[tuple[str, str]]:
    """Labels and accuracies on the validation data: without dropout, of the mean over masks, and of its two halves.

    The more certain half are the rows with the lower entropy of that mean. Leaves the module in eval mode.
    """
    module.eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        batches = [_predict(module, batch, callback) for batch in data.val_dataloader()]
    plain, mean, doubt = (torch.cat(column) for column in zip(*batches, strict=True))
    certain, uncertain = mean[doubt.argsort(stable=True)].chunk(2)
    yield "rows", f"{len(mean)} of validation, {callback.num_samples} dropout masks each"
    for label, correct in (
        ("accuracy without dropout", plain),
        ("accuracy of the mean over masks", mean),
        ("of its more certain half", certain),
        ("of the other half", uncertain),
    ):
        yield label, f"{correct.float().mean():.3f}"


def _predict(module: LightningModule, batch: list[Tensor], callback: MCDropout) -> tuple[Tensor, Tensor, Tensor]:
    """For each row: whether it is right without dropout, whether the mean over masks is, and its entropy."""
    inputs, targets = (part.to(module.device) for part in batch)
    with torch.no_grad():
        plain = module(inputs).argmax(-1)
    prediction = mc_predict(module, inputs, callback.num_samples, max_batch=callback.max_batch)
    assert prediction.entropy is not None
    return (plain == targets).cpu(), (prediction.mean.argmax(-1) == targets).cpu(), prediction.entropy.cpu()
