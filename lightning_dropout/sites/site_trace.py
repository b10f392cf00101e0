"""The dropout operations that a model ran."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

from lightning_dropout.sites.location import short_source
from lightning_dropout.sites.recording import Recording, Run

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["DropoutOperation", "SiteTrace"]


@dataclass(frozen=True)
class DropoutOperation:
    """Equal dropout calls from one line of one module.

    Attributes:
        call: The function, or for code that draws a mask itself the function that drew it.
        site: Name of the site that the rate came from; None if it came from none.
        kind: Kind of that site.
        rate: The site's rate as it is outside the trace; without a site, the rate in the call.
        probe: The rate that the site had in the trace.
        dropped: Fraction of entries dropped in the trace; None where it cannot be told, as in an RNN.
        shape: Shape of the input, of the query for attention.
        num_calls: How often it ran.
        position: ``"scores"``, ``"weights"`` or ``"context"`` inside attention, else None.
        is_constant: Whether the rate of an operation without a site is written in the code.
        module: Name of the innermost module that made the call.
        file: Source file of the call, outside torch.
        line: Line in it.
    """

    call: str
    site: str | None
    kind: str | None
    rate: float
    probe: float | None
    dropped: float | None
    shape: tuple[int, ...]
    num_calls: int
    position: str | None
    is_constant: bool
    module: str | None
    file: str
    line: int

    @property
    def source(self) -> str:
        """File name and line, or nothing where no code of the user's made the call."""
        return short_source(self.file, self.line)


class SiteTrace:
    """What ``trace_sites`` found; prints as a table.

    Attributes:
        operations: The dropout operations, in the order in which they first ran.
        silent: Names of the sites that never dropped anything: dead knobs, or not on the path that these inputs took.
        draws: Other random numbers that the model drew, by call and line. What they are for is not known.
    """

    def __init__(self, recording: Recording) -> None:
        runs = [run for run in recording.runs if run.site is not None or not run.is_draw]
        self.operations = tuple(_merged(group) for group in _groups(runs))
        fired = {run.site for run in runs}
        self.silent = tuple(site.name for site in recording.sites if site not in fired)
        others = (run for run in recording.runs if run.site is None and run.is_draw)
        self.draws = tuple(dict.fromkeys(f"{run.call} at {run.where.file}:{run.where.line}" for run in others))

    @property
    def unreachable(self) -> tuple[DropoutOperation, ...]:
        """The operations whose rate comes from no site, so that nothing here can schedule them."""
        return tuple(operation for operation in self.operations if operation.site is None)

    @property
    def constants(self) -> tuple[DropoutOperation, ...]:
        """Those of them whose rate is written in the code."""
        return tuple(operation for operation in self.operations if operation.is_constant)

    def of_site(self, name: str) -> tuple[DropoutOperation, ...]:
        """The operations of one site."""
        return tuple(operation for operation in self.operations if operation.site == name)

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON knows."""
        operations = [{**asdict(operation), "shape": list(operation.shape)} for operation in self.operations]
        return {"operations": operations, "silent": list(self.silent), "draws": list(self.draws)}

    def table(self) -> Table:
        """A table for ``rich``, one row per operation and one per site that never dropped anything."""
        from rich.table import Table

        table = Table("site", "kind", "rate", "probe rate", "dropped", "input", "calls", "call", "source")
        table.columns[0].overflow = "fold"
        table.caption = "Every site ran once at a probe rate of its own, which told its dropout operations."
        for op in self.operations:
            site = op.site or f"{'constant' if op.is_constant else 'no site'} in {op.module!r}"
            kind = " on ".join(filter(None, (op.kind, op.position)))
            numbers = f"{op.rate:g}", _number(op.probe), _number(op.dropped), "x".join(map(str, op.shape))
            table.add_row(site, kind, *numbers, str(op.num_calls), op.call, op.source)
        for name in self.silent:
            table.add_row(name, "", "", "", "never", "", "0")
        return table

    def __str__(self) -> str:
        from rich.console import Console

        text = StringIO()
        console = Console(file=text, width=150)
        console.print(self.table() if self.operations or self.silent else "no dropout")
        for draw in self.draws:
            console.print(f"Also drew random numbers: {draw}", soft_wrap=True)
        return text.getvalue().rstrip()

    def __repr__(self) -> str:
        return f"SiteTrace({len(self.operations)} operations, {len(self.silent)} silent sites)"


def _groups(runs: Iterable[Run]) -> list[list[Run]]:
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        key = run.call, run.site, run.where, run.shape, run.position, run.rate
        groups.setdefault(key, []).append(run)
    return list(groups.values())


def _merged(runs: list[Run]) -> DropoutOperation:
    run = runs[0]
    known = [run.dropped for run in runs if run.dropped is not None]
    return DropoutOperation(
        call=run.call,
        site=run.site.name if run.site else None,
        kind=run.site.kind if run.site else None,
        rate=run.rate,
        probe=run.probe,
        dropped=sum(known) / len(known) if known else None,
        shape=run.shape,
        num_calls=len(runs),
        position=run.position,
        is_constant=run.is_constant,
        module=run.where.module,
        file=run.where.file,
        line=run.where.line,
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
