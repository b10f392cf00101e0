"""Host time of setting the rates of many sites, as a scheduler does before every step.

    python tests/benchmarks/site_writing.py

Prints, for 10, 1,000 and 10,000 sites, the time of one write in microseconds: to the layers of this package, to
``torch.nn.Dropout``, and by the loop over ``module.p = rate`` that a callback of one's own would run. Median and
spread over repeated runs that take turns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table
from torch import nn

from lightning_dropout.layers import Dropout
from lightning_dropout.sites import SiteWriter, find_sites

NUM_ROUNDS = 30


def microseconds(function: Callable[[float], None], *, num_calls: int) -> float:
    start = time.perf_counter()
    for call in range(num_calls):
        function(call / num_calls)
    return (time.perf_counter() - start) / num_calls * 1e6


def loop(model: nn.Module) -> Callable[[float], None]:
    def write(rate: float) -> None:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = rate

    return write


def main() -> None:
    table = Table("sites", "our layers, set", "our layers, scale", "nn.Dropout, set", "nn.Dropout, own loop")
    for num_sites in (10, 1_000, 10_000):
        ours = nn.ModuleList(Dropout(0.1) for _ in range(num_sites))
        foreign = nn.ModuleList(nn.Dropout(0.1) for _ in range(num_sites))
        looped = nn.ModuleList(nn.Dropout(0.1) for _ in range(num_sites))
        our_writer = SiteWriter(find_sites(ours), model=ours)
        foreign_writer = SiteWriter(find_sites(foreign), model=foreign)
        contenders = [our_writer.set, our_writer.scale, foreign_writer.set, loop(looped)]
        times: list[list[float]] = [[] for _ in contenders]
        for _ in range(NUM_ROUNDS):
            for function, measured in zip(contenders, times, strict=True):
                measured.append(microseconds(function, num_calls=max(2_000 // num_sites, 3)))
        cells = [f"{statistics.median(t):,.0f} ({min(t):,.0f} to {max(t):,.0f}) us" for t in times]
        table.add_row(f"{num_sites:,}", *cells)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
