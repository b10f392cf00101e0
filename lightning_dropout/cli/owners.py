"""Who owns the name ``lightning`` on this machine: several packages install a script that is called so."""

from __future__ import annotations

import shutil
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

__all__ = ["other_owners", "spelled", "taken_by"]


def other_owners() -> list[EntryPoint]:
    """Console scripts called ``lightning`` of other installed distributions, by name of the distribution."""
    found = {
        point.dist.name: point
        for point in entry_points(group="console_scripts", name="lightning")
        if point.dist is not None and point.module.partition(".")[0] != "lightning_dropout"
    }
    return [found[name] for name in sorted(found)]


def taken_by() -> str | None:
    """Whose script answers to ``lightning`` instead of ours; the package that was installed last writes it."""
    script = shutil.which("lightning")
    if script is None or not (others := other_owners()):
        return None
    text = Path(script).read_bytes()
    if b"lightning_dropout" in text:
        return None
    return next(
        (point.dist.name for point in others if point.dist and point.module.encode() in text), "another package"
    )


def spelled(command: str) -> str:
    """``command`` as it can be typed here: ``lightning run`` is ours only where nobody took the script."""
    if command.startswith("lightning run ") and taken_by() is not None:
        return command.replace("lightning run", "lightning-dropout run", 1)
    return command
