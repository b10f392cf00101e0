"""``preview``: the dropout schedules of a recipe, drawn before anything is trained."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_dropout.cli.arguments import Parser
from lightning_dropout.cli.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from lightning_dropout.callbacks import DropoutScheduler
    from lightning_dropout.cli.schedule_plot import RateCurve

__all__ = ["preview"]

_NUM_DRAWN, _NUM_SKETCHED = 401, 61


def preview(arguments: Sequence[str]) -> int:
    """Draw every DropoutScheduler of a recipe, as a picture and in the terminal.

    Raises:
        UserError: If the recipe cannot be used, a schedule drives no site, or the picture cannot be written.
    """
    options, overrides = _parser().parse_known_args(arguments)
    from lightning_dropout.callbacks import AdaptiveDropout, DropoutScheduler
    from lightning_dropout.cli.assembly import Assembly, guarded

    with guarded():
        assembly = Assembly(options.recipe, overrides)
        schedulers = [callback for callback in assembly.callbacks if isinstance(callback, DropoutScheduler)]
        curves = [_curve(scheduler, assembly.model, _NUM_DRAWN) for scheduler in schedulers]
        for scheduler in schedulers:
            print(*_described(scheduler, assembly.model), "", sep="\n")
        for callback in assembly.callbacks:
            if isinstance(callback, AdaptiveDropout):
                low, high = callback.bounds
                print(f"{callback}\n  decides in training on rates from {low:g} to {high:g}, by the gap.\n")
        if curves:
            _write(curves, options.output or Path(f"{Path(options.recipe).stem}-schedule.png"), options)
        else:
            print(f"{options.recipe} has no DropoutScheduler. Rates that nothing else drives stay as they are built.")
    return 0


def _parser() -> Parser:
    parser = Parser(
        "preview",
        "Draw the rates that every DropoutScheduler of a recipe will set, over the progress of training.",
        [
            ("preview char-lm", "writes char-lm-schedule.png"),
            ("preview ./my.yaml --output rates.png", "a file of your own"),
            ("preview char-lm --trainer.callbacks.schedule.until 0.8", "with any override of `lightning run`"),
        ],
    )
    parser.add_argument("recipe", metavar="RECIPE|FILE.yaml", help="its name, or the path of a YAML file")
    parser.add_argument("--output", metavar="PATH.png", type=_png, help="where to write the picture")
    return parser


def _png(text: str) -> Path:
    if not text.endswith(".png"):
        raise argparse.ArgumentTypeError(f"found {text!r}. Give a path that ends in .png.")
    return Path(text)


def _curve(scheduler: DropoutScheduler, model: nn.Module, num_points: int) -> RateCurve:
    from lightning_dropout.cli.schedule_plot import RateCurve

    sites = scheduler.select(model)
    values = [scheduler.rate_at(i / (num_points - 1)) for i in range(num_points)]
    low = high = 1.0
    if scheduler.how == "scale":
        sites.check_factor(max(values))
        low, high = min(sites.base_rates().values()), max(sites.base_rates().values())
    names = ", ".join(scheduler.sites or ["sites that are on"])
    title = f"{scheduler.schedule!r}, {scheduler.how}: {names} ({len(sites)})"
    return RateCurve(title, [low * value for value in values], [high * value for value in values])


def _described(scheduler: DropoutScheduler, model: nn.Module) -> Iterator[str]:
    from lightning_dropout.cli.schedule_plot import sketch

    yield str(scheduler)
    groups = scheduler.select(model).groups().items()
    yield "  drives " + ", ".join(f"{name} ({len(group)})" for name, group in groups)
    curve = _curve(scheduler, model, _NUM_SKETCHED)
    yield from (f"  {line}" for line in sketch(curve.high))
    length = scheduler.total_steps or scheduler.total_epochs
    unit = "steps" if scheduler.total_steps else "epochs"
    yield f"       start{f'after {length:,} {unit}' if length else 'end of training':>{_NUM_SKETCHED - 4}}"
    if curve.low != curve.high:
        yield f"  Drawn is the site with the highest rate. The lowest goes from {curve.low[0]:g} to {curve.low[-1]:g}."


def _write(curves: Sequence[RateCurve], path: Path, options: argparse.Namespace) -> None:
    from lightning_dropout.cli.schedule_plot import write_schedule_plot

    try:
        write_schedule_plot(curves, path)
    except ImportError as error:
        problem = "there is no picture without matplotlib: pip install 'lightning-dropout[recipes]'"
        if options.output is not None:
            raise UserError(problem) from error
        print(problem)
    else:
        print(f"picture: {path}")
