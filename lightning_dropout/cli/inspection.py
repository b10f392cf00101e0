"""``inspect``: the dropout sites of a model, which of them fire, and what an audit finds."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lightning_dropout.cli.arguments import Parser
from lightning_dropout.cli.errors import UserError, one_line

if TYPE_CHECKING:
    from lightning_dropout.cli.subject import Subject
    from lightning_dropout.sites import Audit, SiteTrace

__all__ = ["inspect"]

_NUM_COLUMNS = 180  # where there is no terminal to ask
_DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "uint8", "bool")


def inspect(arguments: Sequence[str]) -> int:
    """Print the sites, the trace and the audit; return 1 if ``--strict`` and the audit has findings.

    Raises:
        UserError: If there is no such model, or it does not take the input.
    """
    options, overrides = _parser().parse_known_args(arguments)
    from lightning_dropout.cli.assembly import guarded
    from lightning_dropout.cli.subject import imported_subject, recipe_subject

    with guarded():
        if ":" not in options.target:
            subject = recipe_subject(options.target, overrides)
        elif overrides:
            raise UserError(f"found {overrides[0]!r}, but only recipes have overrides. See --help.")
        else:
            subject = imported_subject(options.target)
        findings = _report(options, subject)
    return 1 if options.strict and findings else 0


def _parser() -> Parser:
    parser = Parser(
        "inspect",
        "Print the dropout sites of a model, run it once to see which of them fire, and audit it.",
        [
            ("inspect char-lm", "the model of a recipe, on its own data"),
            ("inspect char-lm --model.network.dropout.ff 0.2", "with any override of `lightning run`"),
            ("inspect my_module:build --input-shape 4,16 --dtype int64", "what my_module.build() returns"),
        ],
    )
    parser.add_argument(
        "target",
        metavar="RECIPE|FILE.yaml|MODULE:NAME",
        help="a model, or a callable that builds one",
    )
    parser.add_argument(
        "--input-shape",
        metavar="N,N",
        type=_shape,
        nargs="+",
        help="run the model on random numbers of this shape, one for each input",
    )
    parser.add_argument("--dtype", choices=_DTYPES, default="float32", help="of that input; whole numbers are all 0")
    parser.add_argument("--ignore", metavar="CODE", nargs="+", default=(), help="leave these rules out of the audit")
    parser.add_argument("--strict", action="store_true", help="exit with code 1 if the audit has findings")
    return parser


def _shape(text: str) -> tuple[int, ...]:
    sizes = text.split(",")
    if not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise argparse.ArgumentTypeError(f"found {text!r}. Give whole numbers and commas, such as 4,16.")
    return tuple(map(int, sizes))


def _report(options: argparse.Namespace, subject: Subject) -> int:
    """Print everything and return the number of findings."""
    from rich.console import Console

    from lightning_dropout.sites import find_sites

    console = Console(highlight=False, width=None if sys.stdout.isatty() else _NUM_COLUMNS)
    sites = find_sites(subject.model)
    console.rule(f"{len(sites)} dropout sites of {type(subject.model).__name__}")
    console.print(sites.table(grouped=True) if sites else "no dropout sites")
    trace, audit = _run(options, subject)
    if trace is None or audit is None:
        if options.strict:
            raise UserError(f"--strict needs an input to run {options.target} on. Give --input-shape.")
        console.print("Without an input it was not run. Give --input-shape, such as 4,16, for a trace and an audit.")
        return 0
    fired = {operation.site for operation in trace.operations} - {None}
    console.rule(f"{len(fired)} of them fired in training, {len(trace.unreachable)} dropout calls belong to none")
    console.print(trace.table() if trace.operations or trace.silent else "no dropout")
    for draw in trace.draws:
        console.print(f"Also drew random numbers: {draw}", soft_wrap=True)
    console.rule(f"{len(audit)} {'finding' if len(audit) == 1 else 'findings'} of the audit")
    console.print(audit.table() if audit else "no findings")
    return len(audit)


def _run(options: argparse.Namespace, subject: Subject) -> tuple[SiteTrace, Audit] | tuple[None, None]:
    import torch

    from lightning_dropout.cli.subject import random_inputs
    from lightning_dropout.sites import audit, trace_sites

    args, kwargs = subject.args, subject.kwargs
    if options.input_shape is not None:
        args, kwargs = random_inputs(options.input_shape, getattr(torch, options.dtype)), {}
    if args is None:
        return None, None
    try:
        trace = trace_sites(subject.model, *args, **kwargs)
        return trace, audit(subject.model, *args, ignore=options.ignore, **kwargs)
    except (RuntimeError, TypeError, IndexError) as error:
        if options.input_shape is None:
            raise
        shapes = " and ".join("x".join(map(str, shape)) for shape in options.input_shape)
        raise UserError(
            f"{type(subject.model).__name__} does not take {options.dtype} of {shapes} "
            f"({type(error).__name__}: {one_line(error)}). Give another --input-shape or --dtype."
        ) from error
