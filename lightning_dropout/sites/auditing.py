"""Look for dropout that is placed or set wrongly."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn

from lightning_dropout.sites.findings import Audit
from lightning_dropout.sites.recording import record
from lightning_dropout.sites.rules import RULES, Evidence

__all__ = ["audit"]


def audit(model: nn.Module, *args: Any, ignore: Collection[str] = (), **kwargs: Any) -> Audit:
    """Run ``model(*args, **kwargs)`` once in train and once in eval mode, and hold its dropout against ten rules.

    Rules look at the rates as they are: a site with rate 0 breaks none. The model comes back as it was, as from
    ``trace_sites``. ``ignore`` silences rules by their code.

    Raises:
        ValueError: If ``ignore`` names a code that does not exist.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 2))
        >>> for finding in audit(model, torch.randn(4, 8)):
        ...     print(finding.code, finding.title, finding.site)
        LD001 dropout right after batch norm 3
    """
    codes = [rule.code for rule in RULES]
    if unknown := sorted(set(ignore) - set(codes)):
        raise ValueError(f"audit(ignore={unknown[0]!r}) is the code of no rule. Found: {', '.join(codes)}.")
    evidence = Evidence(model, record(model, args, kwargs, training=True), record(model, args, kwargs, training=False))
    return Audit([finding for rule in RULES if rule.code not in ignore for finding in rule.findings(evidence)])
