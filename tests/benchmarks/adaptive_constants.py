"""How the constants of adaptive dropout were chosen: one change at a time, on tasks that are not reported.

    python -m tests.benchmarks.adaptive_constants

Five small tasks, from one where a rate of 0.8 is best to one where any dropout harms, each started at 0.5. A figure is
the validation loss after the last step, as in ``adaptive.py``, but from a bare training loop, which is faster. The last
table says how far every variant is above the best of nine fixed rates. A constant was to change where the mean over the
tasks got better by more than the seeds scatter.
"""

from __future__ import annotations

import math
from functools import cache, partial
from typing import Any

import torch
from lightning_dropout_callbacks import rate_controller
from lightning_dropout_callbacks.rate_controller import RateController
from torch import Tensor

from lightning_dropout import find_sites
from lightning_dropout.metrics import FitJudge
from lightning_dropout.modules.optimization import decay_groups, warmup_cosine
from tests.benchmarks.adaptive import FIXED, RATES, START, excesses
from tests.benchmarks.runs import Figures, Run, complete, finish, parser
from tests.benchmarks.tasks import DEVELOPMENT_TASKS

FIRST_SEED = 100
NUM_DECISIONS = 50
#: Constants of the module and arguments of the controller. The empty one is what there is.
VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"_RAISE": 6.0},
    {"_RAISE": 24.0},
    {"_LOWER": 3.0},
    {"_LOWER": 12.0},
    {"_RISE": 0.005, "_TRAIN_RISE": 0.01},
    {"_RISE": 0.02, "_TRAIN_RISE": 0.04},
    {"target": 0.15},
    {"target": 0.35},
    {"highest": 0.7},
    {"highest": 0.8},
    {"cooldown": 0.0},
    {"cooldown": 0.2},
)


def name(variant: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in variant.items()) or "as it is"


def controller(*, target: float = 0.25, highest: float = 0.9, cooldown: float = 0.1, **constants: float) -> Any:
    for constant, value in constants.items():
        setattr(rate_controller, constant, value)
    return RateController(START, bounds=(0.0, highest), judge=FitJudge(target=target), cooldown=cooldown)


@cache
def tensors(task: str) -> tuple[list[Tensor], list[Tensor], int]:
    torch.manual_seed(0)
    train, val = DEVELOPMENT_TASKS[task].data(0)
    parts = ([torch.cat(columns) for columns in zip(*loader, strict=True)] for loader in (train, val))
    return next(parts), [column[:1000] for column in next(parts)], train.batch_size


def measure(run: Run, *, num_epochs: int | None = None) -> Figures:
    """The validation loss after the last step."""
    before = {constant: getattr(rate_controller, constant) for constant in ("_RAISE", "_LOWER", "_RISE", "_TRAIN_RISE")}
    try:
        variant = next((variant for variant in VARIANTS if name(variant) == run.method), None)
        decides = None if variant is None else controller(**variant)
        return {"loss": train(run, decides, num_epochs or DEVELOPMENT_TASKS[run.task].num_epochs)}
    finally:
        for constant, value in before.items():
            setattr(rate_controller, constant, value)


def train(run: Run, decides: RateController | None, num_epochs: int) -> float:
    (x, y), val, batch_size = tensors(run.task)
    torch.manual_seed(run.seed)
    rate = START if decides else RATES[FIXED.index(run.method)]
    model: Any = DEVELOPMENT_TASKS[run.task].model(rate)
    sites = find_sites(model)
    optimizer = torch.optim.AdamW(decay_groups(model.network, model.weight_decay), betas=model.betas, fused=True)
    num_batches = len(x) // batch_size
    total = num_batches * num_epochs
    decision_steps = {math.ceil(i * total / NUM_DECISIONS) for i in range(1, NUM_DECISIONS + 1)}
    seen = torch.randperm(len(x))[:500]

    def loss(inputs: Tensor, targets: Tensor) -> float:
        model.eval()
        with torch.no_grad():
            value: float = model.loss(model(inputs), targets).item()
        model.train()
        return value

    for step in range(total):
        if step % num_batches == 0:
            order = torch.randperm(len(x))
        batch = order[step % num_batches * batch_size :][:batch_size]
        if decides:
            sites.set(decides.rate_at(step / total))
        for group in optimizer.param_groups:
            group["lr"] = model.lr * warmup_cosine(step, warmup=round(model.warmup * total), total=total, floor=0.1)
        model.loss(model(x[batch]), y[batch]).backward()
        optimizer.step()
        optimizer.zero_grad()
        if decides and step + 1 in decision_steps:
            decides.decide(train=loss(x[seen], y[seen]), val=loss(*val), progress=(step + 1) / total)
    return loss(*val)


def main(argv: list[str] | None = None) -> None:
    arguments = parser(__doc__, "adaptive_constants")
    arguments.add_argument("--tasks", nargs="+", choices=DEVELOPMENT_TASKS, default=list(DEVELOPMENT_TASKS))
    arguments.set_defaults(seeds=3)
    options = arguments.parse_args(argv)
    variants = [name(variant) for variant in (VARIANTS[:2] if options.quick else VARIANTS)]
    runs = [
        Run(task, method, FIRST_SEED + seed)
        for seed in range(options.seeds)
        for task in options.tasks
        for method in (*FIXED, *variants)
    ]
    measured = partial(measure, num_epochs=2 if options.quick else None)
    results = complete(runs, measured, path=options.runs, num_workers=options.workers)
    finish(options, results, excesses(results, options.tasks, variants))


if __name__ == "__main__":
    main()
