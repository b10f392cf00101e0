"""What a run was started with, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_dropout.sites import find_sites

__all__ = ["RunConfiguration", "SiteRow", "describe_run"]

_MAX_LENGTH = 300


class SiteRow(NamedTuple):
    """A dropout site as it was built."""

    name: str
    kind: str
    base_rate: float


class RunConfiguration(NamedTuple):
    """What a report says about a run besides what was measured; all of it goes through JSON unchanged."""

    title: str = "Training run"
    facts: Mapping[str, str] = {}
    hyperparameters: Mapping[str, str] = {}
    sites: Sequence[SiteRow] = ()
    callbacks: Sequence[str] = ()


def describe_run(trainer: Trainer, module: LightningModule, facts: Mapping[str, str] | None = None) -> RunConfiguration:
    """Describe a run, on any rank alone; ``facts`` come on top of what the trainer knows."""
    strategy = type(trainer.strategy).__name__
    known = {
        "steps": f"{trainer.global_step:,}",
        "epochs": str(trainer.current_epoch),
        "trained on": f"{trainer.world_size} x {module.device.type}, {strategy}, precision {trainer.precision}",
    }
    # Those of the module and of the data module, as Lightning logs them.
    owners = [owner for owner in (module, getattr(trainer, "datamodule", None)) if owner is not None]
    hyperparameters = {name: _short(value) for owner in owners for name, value in owner.hparams_initial.items()}
    sites = [SiteRow(", ".join(site.names), site.kind, site.base_rate) for site in find_sites(module)]
    callbacks = [_describe(callback) for callback in trainer.callbacks]  # type: ignore[attr-defined]
    return RunConfiguration(type(module).__name__, {**known, **(facts or {})}, hyperparameters, sites, callbacks)


def _describe(callback: Callback) -> str:
    says_more = type(callback).__str__ is not object.__str__
    return _short(callback if says_more else callback.state_key)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _MAX_LENGTH else f"{text[: _MAX_LENGTH - 3]}..."
