"""Run a model once and see which dropout sites really drop."""

from __future__ import annotations

from typing import Any

from torch import nn

from lightning_dropout.sites.recording import record
from lightning_dropout.sites.site_trace import SiteTrace

__all__ = ["trace_sites"]


def trace_sites(model: nn.Module, *args: Any, **kwargs: Any) -> SiteTrace:
    """Run ``model(*args, **kwargs)`` once and read off every dropout operation which site its rate came from.

    Every site gets a rate of its own for this run, in train mode and in eager; a rate that arrives at a dropout call
    tells its site. Rates that decide whether a layer is skipped are made so small that none is. Modes, buffers, random
    states and rates come back afterwards, also on exceptions.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.1), nn.Linear(8, 8), nn.Dropout(0.0))
        >>> for operation in trace_sites(model, torch.ones(2, 8)).operations:
        ...     print(operation.site, operation.kind, operation.rate, operation.call, operation.shape)
        1 element 0.1 F.dropout (2, 8)
        3 element 0.0 F.dropout (2, 8)
    """
    return SiteTrace(record(model, args, kwargs, training=True))
