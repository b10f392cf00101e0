"""The console script ``lightning``: ``lightning run`` is ours, everything else belongs to whoever shares the name."""

from __future__ import annotations

import sys
from typing import Any

from lightning_dropout.cli.main import report
from lightning_dropout.cli.owners import other_owners
from lightning_dropout.cli.run import run

__all__ = ["main"]

_HELP = """\
usage: lightning run RECIPE|FILE.yaml|SCRIPT.py [options]
       lightning run --list

No other installed package provides a `lightning` command; if one did (lightning-sdk, litserve),
everything but `run` would be handed to it. See also: lightning-dropout --help"""


def main() -> Any:
    """Run a recipe, or call the other owner of the name, which reads the same arguments and decides the exit code."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["run"]:
        return report("lightning run", run, arguments[1:])
    others = other_owners()
    if others:
        return others[0].load()()
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_HELP)
        return 0
    print(
        f"lightning: there is no command {arguments[0]!r} here, and no other installed package provides `lightning`. "
        "Say `lightning run --list`, or install the package whose command it is (lightning-sdk, litserve).",
        file=sys.stderr,
    )
    return 2
