"""What a W&B run knows of a model before it is trained, and how it draws what comes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from lightning_dropout.sites import Sites, audit, find_sites

__all__ = ["audit_config", "define_axes", "site_config"]


def site_config(module: LightningModule) -> dict[str, Any]:
    """The dropout sites, those of repeated blocks together, in types that JSON knows.

    Example:
        >>> from torch import nn
        >>> site_config(nn.Sequential(nn.Dropout(0.1), nn.Dropout2d(0.2)))
        {'0': {'kind': 'element', 'sites': 1, 'rate': 0.1}, '1': {'kind': 'channel', 'sites': 1, 'rate': 0.2}}
    """
    return {
        name if len(group) > 1 else group[0].name: {
            "kind": ", ".join(dict.fromkeys(site.kind for site in group)),
            "sites": len(group),
            **_rates(group),
        }
        for name, group in find_sites(module).groups().items()
    }


def _rates(group: Sites) -> dict[str, float]:
    rates = group.base_rates().values()
    low, high = min(rates), max(rates)
    return {"rate": low} if low == high else {"rate_min": low, "rate_max": high}


def audit_config(trainer: Trainer, module: LightningModule) -> dict[str, Any] | str:
    """The findings of an audit by code and group of sites; or in words why there was none.

    It runs the module's ``example_input_array``, which Lightning's own summary runs as well.
    """
    example = module.example_input_array
    if example is None:
        return f"not run: set {type(module).__name__}.example_input_array"
    if trainer.world_size > 1:
        return "not run: a model on several ranks may wait for the others in its forward"
    example = trainer.strategy.batch_to_device(example, module.device)
    args, kwargs = ((), example) if isinstance(example, dict) else (example, {})
    with trainer.precision_plugin.forward_context():
        findings = audit(module, *(args if isinstance(args, (tuple, list)) else (args,)), **kwargs)
    config: dict[str, Any] = {}
    for finding in findings:
        rule = config.setdefault(finding.code, {"title": finding.title, "advice": finding.advice, "sites": {}})
        group = ".".join("*" if part.isdigit() else part for part in finding.site.split("."))
        rule["sites"].setdefault(group, finding.found)
    return config


def define_axes(logger: WandbLogger, names: Iterable[str]) -> None:
    """Draw over training steps what this package logs, and sum up each gap of ``names`` by its lowest and last value.

    Lightning does the first for runs that it starts, but not for one that it is given.
    """
    run = logger.experiment
    axis = "global_step" if run.settings.sync_tensorboard else "trainer/global_step"
    prefix = f"{logger._prefix}{logger.LOGGER_JOIN_CHAR}" if logger._prefix else ""
    for section in ("dropout", "overfit"):
        run.define_metric(f"{prefix}{section}/*", step_metric=axis, step_sync=True)
    for name in names:
        if name.startswith("overfit/gap_"):
            # By its full name: of several globs that match, W&B takes any.
            run.define_metric(prefix + name, step_metric=axis, step_sync=True, summary="min,last")
