"""What dropout, its schedules and its places are worth on small real data.

    python -m tests.benchmarks.ablations

Every run has a training, a validation and a test part. Whatever decides during training (the adaptive controller, early
stopping) reads the validation part; every figure is from the test part, after the last step. The seed draws the parts,
the weights and the masks, so that methods are compared in pairs.

Rates were fixed beforehand: 0.5 in MLPs, 0.2 in the text classifier, 0.1 for the sublayer sites. The weight decay was
the best of .1, 1 and 10 on the validation part with seed 100, which is not reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from lightning.pytorch import seed_everything
from rich.table import Table

from tests.benchmarks import studies
from tests.benchmarks.runs import Figures, Results, Run, complete, finish, parser, table
from tests.benchmarks.studies import BATCH_NORM, REGULARIZERS, SCHEDULES


@dataclass(frozen=True)
class Study:
    """A table: the first method is what the others are compared with."""

    measure: Callable[[str, int, Callable[[int], int]], Figures]
    methods: tuple[str, ...]
    figures: tuple[str, ...]
    title: str


STUDIES = {
    "diabetes": Study(studies.diabetes, SCHEDULES, ("loss",), "diabetes, 242 patients: schedules"),
    "mnist": Study(studies.mnist, SCHEDULES, ("loss", "accuracy"), "MNIST, 1,000 images: schedules"),
    "century": Study(studies.century, SCHEDULES, ("loss", "accuracy"), "century of 1,000 passages: schedules"),
    "regularizers": Study(
        studies.regularizers,
        ("none", *REGULARIZERS, "all", *(f"all but {name}" for name in REGULARIZERS)),
        ("loss", "accuracy"),
        "MNIST, 1,000 images: dropout and other means against overfitting",
    ),
    "batch norm": Study(
        studies.batch_norm,
        tuple(BATCH_NORM),
        ("loss", "accuracy"),
        "MNIST, 1,000 images, CNN: where dropout stands to batch norm",
    ),
    "little text": Study(
        studies.sublayers,
        ("20,000 characters, off", "20,000 characters, on"),
        ("loss",),
        "sublayer dropout, little data",
    ),
    "more text": Study(
        studies.sublayers,
        ("200,000 characters, off", "200,000 characters, on"),
        ("loss",),
        "sublayer dropout, ten times more",
    ),
    "mnist high rates": Study(
        studies.mnist_high_rates,
        tuple(f"rate {rate:g}" for rate in (0, 0.5, 0.8, 0.9, 0.95, 0.99)),
        ("loss", "accuracy"),
        "MNIST, 1,000 images, MLP: high rates",
    ),
    "high rates": Study(
        studies.high_rates,
        tuple(f"rate {rate:g}" for rate in (0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99)),
        ("loss", "always the same guess"),
        "sublayer dropout at high rates, 200,000 characters",
    ),
}


def measure(run: Run, *, quick: bool) -> Figures:
    seed_everything(run.seed, verbose=False)
    return STUDIES[run.task].measure(run.method, run.seed, lambda number: 2 if quick else number)


def tables(results: Results) -> Iterator[Table]:
    """One for each study of which every method was run."""
    for name, study in STUDIES.items():
        if set(study.methods) <= {run.method for run in results if run.task == name}:
            yield table(
                results, name, study.methods, figures=study.figures, baseline=study.methods[0], title=study.title
            )


def main(argv: list[str] | None = None) -> None:
    arguments = parser(__doc__, "ablations")
    arguments.add_argument("--studies", nargs="+", choices=STUDIES, default=list(STUDIES), metavar="STUDY")
    options = arguments.parse_args(argv)
    runs = [
        Run(name, method, seed)
        for seed in range(options.seeds)
        for name in options.studies
        for method in STUDIES[name].methods
    ]
    results = complete(runs, partial(measure, quick=options.quick), path=options.runs, num_workers=options.workers)
    finish(options, results, *tables(results))


if __name__ == "__main__":
    main()
