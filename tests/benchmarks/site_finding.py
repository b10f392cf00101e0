"""How long it takes to find the sites of a large model: ``python tests/benchmarks/site_finding.py``."""

from __future__ import annotations

from time import perf_counter

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_dropout.sites import find_sites


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.output, self.drop, self.activation = nn.Linear(1, 1), nn.Linear(1, 1), nn.Dropout(), nn.ReLU()
        self.activation_dropout = 0.1

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.dropout(self.activation(self.hidden(x)), self.activation_dropout, self.training)
        return x + self.drop(self.output(hidden))


def main(num_blocks: int = 2000, num_runs: int = 5) -> None:
    model = nn.Sequential(*(Block() for _ in range(num_blocks)))
    times = []
    for _ in range(num_runs):
        start = perf_counter()
        sites = find_sites(model)
        times.append(perf_counter() - start)
    num_modules = sum(1 for _ in model.modules())
    print(f"{len(sites)} sites in {num_modules} modules: {1e3 * min(times):.1f} ms")


if __name__ == "__main__":
    main()
