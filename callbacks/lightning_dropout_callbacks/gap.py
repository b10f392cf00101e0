"""The gap between a metric on validation data and the same metric on training data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from lightning_dropout.metrics import generalization_gap
from lightning_dropout_callbacks.log_capture import LogCapture, Share, gather, merge

__all__ = ["compare", "metric_name"]

_STAGES = "val|valid|validation|eval|dev"
_STAGE = re.compile(rf"^({_STAGES})[_/.-](?=.)|(?<=.)[_/.-]({_STAGES})$")
_LOADER = re.compile(r"/dataloader_idx_(\d+)$")
_HIGHER_IS_BETTER = re.compile(
    r"(?:^|[_/.-])(acc|accuracy|auc|auroc|ap|map|f1|fbeta|precision|recall|specificity|sensitivity|iou|miou|dice|bleu"
    r"|rouge|r2|psnr|ssim|top1|top5|kappa|mcc)(?:[_/.-]|$)",
    re.IGNORECASE,
)


class _Measured(NamedTuple):
    train: Share
    val: Share
    noisy: Share | None
    is_higher_better: bool


def compare(
    logged: LogCapture,
    validation: Mapping[str, Tensor],
    num_val_samples: Mapping[int, int],
    *,
    noisy: LogCapture | None = None,
) -> dict[str, float]:
    """What to log of every metric that was logged on both sides, reduced over ranks: both values and the gap.

    Args:
        logged: This rank's values on training data.
        validation: This rank's values of the validation that just ran.
        num_val_samples: How many samples of each validation loader this rank has seen; may be empty on a single rank.
        noisy: This rank's values on training data with dropout on; what is higher than without is the dropout noise.
    """
    own: dict[str, _Measured] = {}
    for name, train in logged.shares.items():
        if name not in validation:
            continue
        loader = _LOADER.search(name)
        seen = num_val_samples.get(int(loader[1]), 0) if loader else sum(num_val_samples.values())
        reduction = "mean" if logged.is_reduced_over_ranks(name) else train.reduction
        better = logged.higher_is_better(name)
        is_higher_better = _HIGHER_IS_BETTER.search(name) is not None if better is None else better
        val = Share(float(validation[name]), seen or 1, reduction)
        own[name] = _Measured(train, val, noisy.shares.get(name) if noisy else None, is_higher_better)
    ranks: list[dict[str, _Measured]] = gather(own)
    values: dict[str, float] = {}
    names = dict.fromkeys(name for rank in ranks for name in rank)
    for name in names:
        measured = [rank[name] for rank in ranks if name in rank]
        train_value = merge(each.train for each in measured)
        val_value = merge(each.val for each in measured)
        short = metric_name(name)
        if short in names or f"overfit/gap_{short}" in values:
            short = name
        gap = generalization_gap(train_value, val_value, higher_is_better=measured[0].is_higher_better)
        values |= {
            f"overfit/train_{short}": train_value,
            f"overfit/val_{short}": val_value,
            f"overfit/gap_{short}": gap,
        }
        with_dropout = [each.noisy for each in measured if each.noisy is not None]
        if len(with_dropout) == len(measured):
            values[f"overfit/dropout_noise_{short}"] = merge(with_dropout) - train_value
    return values


def metric_name(logged: str) -> str:
    """The name that a validation metric shares with its counterpart on training data.

    The first of several validation loaders needs no suffix; the others keep theirs.

    Example:
        >>> [metric_name(name) for name in ("val_loss", "val/loss", "loss/val", "val_loss_epoch", "loss")]
        ['loss', 'loss', 'loss', 'loss', 'loss']
        >>> metric_name("val_acc/dataloader_idx_0"), metric_name("val_acc/dataloader_idx_1")
        ('acc', 'acc/dataloader_idx_1')
    """
    loader = _LOADER.search(logged)
    name = _STAGE.sub("", _LOADER.sub("", logged).removesuffix("_epoch"), count=1)
    return f"{name}{loader[0]}" if loader and int(loader[1]) > 0 else name
