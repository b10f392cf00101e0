"""Rates that can be told apart wherever they arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias

from lightning_dropout.layers import LiveRate
from lightning_dropout.sites.places import holder_of
from lightning_dropout.sites.site import Site
from lightning_dropout.sites.sites import Sites

__all__ = ["LEARNED", "Probe", "Probes", "probing"]

OnUse: TypeAlias = "Callable[[Probe, bool], None]"

_LOWEST, _HIGHEST = 0.2, 0.6
# Layers are skipped so rarely that it does not happen: a skipped layer would hide the dropout inside it.
_LAYER_RATE = 1e-9
# Their rate is a parameter: it is not read in forward, and could not be put back to the last bit.
LEARNED = frozenset({"concrete"})


class Probe(float):
    """A rate that stays recognisable in arithmetic, and tells when Python code turns it into something else.

    ``is_keep`` tells a probability of keeping, ``1 - rate``, from one of dropping. ``on_use`` is called with the probe
    where it becomes a whole number, and with True besides where it is compared with a number that may be random.
    """

    site: Site
    is_keep: bool
    on_use: OnUse

    def __new__(cls, value: float, site: Site, on_use: OnUse, is_keep: bool = False) -> Probe:
        """Make a float of it."""
        self = super().__new__(cls, value)
        self.site, self.on_use, self.is_keep = site, on_use, is_keep
        return self

    def __reduce__(self) -> tuple[type[float], tuple[float]]:
        return float, (float(self),)

    def _derive(self, value: Any, *, flipped: bool = False) -> Any:
        return Probe(value, self.site, self.on_use, self.is_keep != flipped) if isinstance(value, float) else value

    def __add__(self, other: Any) -> Any:
        return self._derive(super().__add__(other))

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return self._derive(super().__sub__(other))

    def __rsub__(self, other: Any) -> Any:
        return self._derive(super().__rsub__(other), flipped=True)

    def __mul__(self, other: Any) -> Any:
        return self._derive(super().__mul__(other))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        return self._derive(super().__truediv__(other))

    def __int__(self) -> int:
        self.on_use(self, False)
        return super().__int__()

    __trunc__ = __floor__ = __int__

    def __ceil__(self) -> int:
        self.on_use(self, False)
        return super().__ceil__()

    def __round__(self, ndigits: Any = None) -> Any:
        self.on_use(self, False)
        return super().__round__(ndigits)

    def __lt__(self, other: float) -> bool:
        return self._compare(other, super().__lt__(other))

    def __le__(self, other: float) -> bool:
        return self._compare(other, super().__le__(other))

    def __gt__(self, other: float) -> bool:
        return self._compare(other, super().__gt__(other))

    def __ge__(self, other: float) -> bool:
        return self._compare(other, super().__ge__(other))

    def _compare(self, other: Any, answer: bool) -> bool:
        if isinstance(other, float) and other not in (0.0, 1.0):  # with a random number, not "is there a rate?"
            self.on_use(self, True)
        return answer


class Probes:
    """Every site's probe."""

    def __init__(self, sites: Sites, on_use: OnUse) -> None:
        # Numbers that nobody would write into code, so that equality tells them apart too.
        step = (_HIGHEST - _LOWEST) / max(len(sites), 1)
        self._by_value: dict[float, Probe] = {}
        self.by_site: dict[Site, Probe] = {}
        for index, site in enumerate(sites):
            value = _LAYER_RATE * (1 + index) if site.kind == "layer" else _LOWEST + step * (index + 0.381966)
            self.by_site[site] = probe = Probe(value, site, on_use)
            for known in (probe, 1.0 - probe):
                self._by_value[float(known)] = known

    def find(self, value: object) -> Probe | None:
        """The probe that ``value`` is, or equals: code may have copied it into a plain float."""
        if isinstance(value, Probe):
            return value
        return self._by_value.get(value) if isinstance(value, float) else None


@contextmanager
def probing(sites: Sites, on_use: OnUse) -> Iterator[Probes]:
    """Give every site a rate of its own inside a ``with`` block; what was there comes back, also on exceptions."""
    probes = Probes(Sites([site for site in sites if site.kind not in LEARNED]), on_use)
    with ExitStack() as undo:
        for site, probe in probes.by_site.items():
            if isinstance(site.module, LiveRate):
                undo.callback(setattr, site.module, "dormant", site.module.dormant)
            for module, attribute in ((site.module, site.attribute), *site.twins):
                holder, name = holder_of(module, attribute)
                undo.callback(setattr, holder, name, getattr(holder, name))
            site.write(probe)
        yield probes
