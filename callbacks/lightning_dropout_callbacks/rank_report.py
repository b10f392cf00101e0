"""What ranks tell each other about dropout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple
from zlib import crc32

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import nn

from lightning_dropout.sites import find_sites
from lightning_dropout_callbacks.log_capture import gather
from lightning_dropout_callbacks.violations import Violation, Violations, listed

__all__ = ["settle"]


class _Report(NamedTuple):
    """What a rank has found, a checksum of its modes and rates, and the seed of its first masks."""

    violations: list[Violation]
    states: int
    data_rank: int
    seed: int | None


def settle(violations: Violations, trainer: Trainer, module: LightningModule, seed: int | None = None) -> None:
    """React to what all ranks have found, and to how they differ, in the same way on all of them.

    One small gather. ``seed`` is what this rank drew its masks from in a training step.
    """
    if trainer.world_size == 1:
        violations.settle([violations.pending])
        return
    data_rank = (trainer.distributed_sampler_kwargs or {}).get("rank", 0)
    states = _states(module)
    reports = gather(_Report(violations.pending, crc32(repr(states).encode()), data_rank, seed))
    found = [report.violations for report in reports]
    do_differ = len({report.states for report in reports}) > 1
    if do_differ and not any(found) and (differences := list(_differences(gather(states)))):
        advice = "Set modes and rates from values that are the same on all ranks."
        found = [[Violation("Ranks do not agree about dropout", listed(differences), advice)] for _ in reports]
    if _have_same_masks(reports):
        rank_zero_warn(
            f"ModeGuard: {trainer.world_size} ranks draw the same dropout masks for different data, as "
            "seed_everything() seeds all ranks alike. Add RankSeed() to the trainer's callbacks."
        )
    violations.settle(found)


def _states(model: nn.Module) -> dict[str, str]:
    """Rate and mode of every site, in words."""
    return {
        site.name: f"at rate {site.rate:.6g} in {'train' if site.module.training else 'eval'} mode"
        for site in find_sites(model)
    }


def _differences(by_rank: Sequence[dict[str, str]]) -> Iterator[str]:
    for name in by_rank[0]:
        ranks: dict[str, list[str]] = {}
        for rank, states in enumerate(by_rank):
            if name in states:  # an expert may live on one rank only
                ranks.setdefault(states[name], []).append(str(rank))
        if len(ranks) > 1:
            yield f"{name!r} is " + " and ".join(f"{state} on rank {', '.join(on)}" for state, on in ranks.items())


def _have_same_masks(reports: Sequence[_Report]) -> bool:
    """Whether ranks with different data drew from one seed; those of one tensor-parallel group have to."""
    seeds = {report.data_rank: report.seed for report in reports}
    return None not in seeds.values() and len(set(seeds.values())) < len(seeds)
