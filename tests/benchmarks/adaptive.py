"""Adaptive dropout against a sweep of fixed rates on real data.

    python -m tests.benchmarks.adaptive

Three tasks, one set of constants: the defaults of ``AdaptiveDropout``, and 0.5 as the rate that every model is built
with. A figure is the validation loss after the last step, not the best on the way. The last row is a control: the same
controller with the two losses swapped.

The defaults were chosen by ``adaptive_constants.py``, on other tasks and other seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from statistics import mean

from lightning.pytorch import Trainer, seed_everything
from rich.table import Table

from lightning_dropout.callbacks import AdaptiveDropout, OverfittingMonitor
from tests.benchmarks.runs import Figures, Results, Run, complete, finish, parser, pick, table
from tests.benchmarks.tasks import TASKS

RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
START = 0.5
FIXED = tuple(f"rate {rate:g}" for rate in RATES)


class FlippedDropout(AdaptiveDropout):
    """Takes training for validation."""

    def _measured(self, trainer: Trainer) -> tuple[float, float]:
        train, val = super()._measured(trainer)
        return val, train


CONTROLLED: dict[str, type[AdaptiveDropout]] = {"adaptive": AdaptiveDropout, "gap flipped": FlippedDropout}


def measure(run: Run, *, num_epochs: int | None = None) -> Figures:
    """The validation loss after the last step."""
    task = TASKS[run.task]
    adaptive = CONTROLLED[run.method]() if run.method in CONTROLLED else None
    epochs = num_epochs or task.num_epochs
    seed_everything(run.seed, verbose=False)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        check_val_every_n_epoch=task.validate_every if adaptive else epochs,
        callbacks=[OverfittingMonitor(plot=False), adaptive] if adaptive else [],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    model = task.model(START if adaptive else RATES[FIXED.index(run.method)])
    train, val = task.data(run.seed)
    trainer.fit(model, train, val)
    loss = trainer.validate(model, val, verbose=False)[0]["val_loss"]
    return {"loss": loss} if adaptive is None else {"loss": loss, "last rate": adaptive.rate or 0.0}


def excess(results: Results, task: str, method: str) -> float:
    """How far the mean loss is above that of the best fixed rate."""

    def loss(method: str) -> float:
        return mean(pick(results, task, method, "loss").values())

    fixed = {run.method for run in results if run.task == task and run.method in FIXED}
    return loss(method) / min(map(loss, fixed)) - 1.0


def excesses(results: Results, tasks: Sequence[str], methods: Sequence[str]) -> Table:
    grid = Table("method", *tasks, "mean", "worst", title="loss above that of the best fixed rate")
    for method in methods:
        values = [excess(results, task, method) for task in tasks]
        grid.add_row(method, *(f"{value:+.1%}" for value in (*values, mean(values), max(values))))
    return grid


def tables(results: Results, tasks: Sequence[str], methods: Sequence[str]) -> Iterator[Table]:
    """The sweep of each task, then what every controller loses against the best of the sweep."""
    for task in tasks:
        done = [method for method in methods if pick(results, task, method, "loss")]
        yield table(results, task, done, figures=["loss"], baseline=done[0], title=task)
    swept = [task for task in tasks if any(run.task == task and run.method in FIXED for run in results)]
    controlled = [name for name in CONTROLLED if all(pick(results, task, name, "loss") for task in swept)]
    if controlled and swept:
        yield excesses(results, swept, controlled)


def main(argv: list[str] | None = None) -> None:
    arguments = parser(__doc__, "adaptive")
    arguments.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    arguments.add_argument("--methods", nargs="+", choices=[*CONTROLLED, *FIXED], default=[*CONTROLLED, *FIXED])
    options = arguments.parse_args(argv)
    runs = [
        Run(task, method, seed) for seed in range(options.seeds) for task in options.tasks for method in options.methods
    ]
    measured = partial(measure, num_epochs=5 if options.quick else None)
    results = complete(runs, measured, path=options.runs, num_workers=options.workers)
    finish(options, results, *tables(results, options.tasks, options.methods))


if __name__ == "__main__":
    main()
