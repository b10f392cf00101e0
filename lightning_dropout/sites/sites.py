"""A selection of dropout sites, and what can be done with all of them at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from io import StringIO
from typing import TYPE_CHECKING, overload

from lightning_dropout.sites.kinds import KINDS
from lightning_dropout.sites.site import Site

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Sites"]

_MAX_NAMES_IN_ERROR = 12


class Sites(Sequence[Site]):
    """Dropout sites of a model, in the order of its modules; prints as a table.

    Example:
        >>> from torch import nn
        >>> from lightning_dropout.sites import find_sites
        >>> model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.1), nn.Linear(8, 8), nn.Dropout(0.4))
        >>> sites = find_sites(model)
        >>> sites.scale(0.5)
        >>> sites.rates()
        {'1': 0.05, '3': 0.2}
        >>> with sites.override(0.0):
        ...     sites.rates()
        {'1': 0.0, '3': 0.0}
        >>> sites.restore()
        >>> sites.rates()
        {'1': 0.1, '3': 0.4}
    """

    def __init__(self, sites: Sequence[Site]) -> None:
        self._sites = tuple(sites)

    @overload
    def __getitem__(self, index: int) -> Site: ...
    @overload
    def __getitem__(self, index: slice) -> Sites: ...
    def __getitem__(self, index: int | slice) -> Site | Sites:
        return Sites(self._sites[index]) if isinstance(index, slice) else self._sites[index]

    def __len__(self) -> int:
        return len(self._sites)

    def __iter__(self) -> Iterator[Site]:
        return iter(self._sites)

    def match(self, *patterns: str) -> Sites:
        """The sites whose name matches one of the globs.

        ``*`` crosses dots. A glob may leave out the start of the name up to a dot, so ``blocks.*.ff`` finds
        ``network.blocks.0.ff`` as well.

        Raises:
            ValueError: If one of the globs matches nothing; the message lists the names there are.
        """
        selected: set[int] = set()
        for pattern in patterns:
            hits = {i for i, site in enumerate(self) if any(_matches(name, pattern) for name in site.names)}
            if not hits:
                raise ValueError(f"{pattern!r} matches no dropout site. Found: {self._listed_names()}.")
            selected |= hits
        return Sites([self[i] for i in sorted(selected)])

    def of_kind(self, *kinds: str) -> Sites:
        """The sites of the given kinds, such as ``"attention"``; empty if there are none.

        Raises:
            ValueError: If a kind is none that dropout has, nor one of these sites.
        """
        found = {site.kind for site in self}
        for kind in kinds:
            if kind not in found and kind not in KINDS:
                names = ", ".join(map(repr, sorted(found))) or "no site at all"
                raise ValueError(f"{kind!r} is no kind of dropout. Found: {names}. Known: {', '.join(KINDS)}.")
        return Sites([site for site in self if site.kind in kinds])

    def groups(self) -> dict[str, Sites]:
        """The sites of repeated blocks together: ``blocks.0.ff`` and ``blocks.1.ff`` form the group ``blocks.ff``."""
        groups: dict[str, list[Site]] = {}
        for site in self:
            groups.setdefault(site.group, []).append(site)
        return {name: Sites(sites) for name, sites in groups.items()}

    def rates(self) -> dict[str, float]:
        """The rate of every site now, by name."""
        return {site.name: site.rate for site in self}

    def base_rates(self) -> dict[str, float]:
        """The rate of every site as built, by name."""
        return {site.name: site.base_rate for site in self}

    def set(self, rate: float) -> None:
        """Give every site the same rate.

        Raises:
            ValueError: If the rate is no number in [0, 1].
        """
        for site in self:
            site.rate = rate

    def scale(self, factor: float) -> None:
        """Give every site ``factor`` times its base rate, which keeps the differences between sites.

        Raises:
            ValueError: Before anything is changed, if a rate would leave [0, 1].
        """
        self.check_factor(factor)
        for site in self:
            site.rate = factor * site.base_rate

    def check_factor(self, factor: float) -> None:
        """Raise a ValueError if ``factor`` times a base rate leaves [0, 1]."""
        if len(self) == 0:
            return
        largest = max(self, key=lambda site: site.base_rate)
        if not 0.0 <= factor * largest.base_rate <= 1.0:
            raise ValueError(
                f"Factor {factor} gives site {largest.name!r} the rate {factor * largest.base_rate:g} "
                f"(base rate {largest.base_rate:g}). Rates stay in [0, 1]: use a smaller factor."
            )

    def restore(self) -> None:
        """Give every site its base rate again."""
        for site in self:
            site.restore()

    @contextmanager
    def override(self, rate: float) -> Iterator[Sites]:
        """Give every site the same rate inside a ``with`` block; the rates before it come back, also on exceptions."""
        before = [site.rate for site in self]
        try:
            self.set(rate)
            yield self
        finally:
            for site, rate_before in zip(self, before, strict=True):
                site.rate = rate_before

    def table(self, *, grouped: bool = False) -> Table:
        """A table of the sites for ``rich``, one row per site or per group of sites in repeated blocks."""
        from rich.table import Table

        table = Table("site", "kind", "rate", "base rate")
        if grouped:
            table.add_column("sites", justify="right")
            for name, group in self.groups().items():
                kinds = ", ".join(dict.fromkeys(site.kind for site in group))
                rates, bases = _range(group.rates().values()), _range(group.base_rates().values())
                table.add_row(name if len(group) > 1 else group[0].name, kinds, rates, bases, str(len(group)))
        else:
            for site in self:
                table.add_row(", ".join(site.names), site.kind, f"{site.rate:g}", f"{site.base_rate:g}")
        return table

    def __str__(self) -> str:
        if len(self) == 0:
            return "no dropout sites"
        from rich.console import Console

        text = StringIO()
        Console(file=text, width=120).print(self.table())
        return text.getvalue().rstrip()

    def __repr__(self) -> str:
        return f"Sites({list(self._sites)!r})"

    def _listed_names(self) -> str:
        names = [repr(site.name) for site in self]
        if len(names) > _MAX_NAMES_IN_ERROR:
            names = [repr(name) for name in self.groups()][:_MAX_NAMES_IN_ERROR]
            return f"{', '.join(names)} ({len(self)} sites in groups)"
        return ", ".join(names) or "no site at all"


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}")


def _range(rates: Iterable[float]) -> str:
    values = sorted(set(rates))
    return f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g} to {values[-1]:g}"
