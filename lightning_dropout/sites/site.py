"""One place in a model where dropout happens."""

from __future__ import annotations

import re
from weakref import WeakKeyDictionary

from torch import nn

from lightning_dropout.layers.rate import check_rate
from lightning_dropout.sites.places import Place, read_place, write_place

__all__ = ["Site"]

# Rates as built, of the sites that were changed through this package and not restored since. Kept outside the
# modules so that nothing of ours shows in their attributes, copies or checkpoints.
_base_rates: WeakKeyDictionary[nn.Module, dict[str, float]] = WeakKeyDictionary()


class Site:
    """One place in a model where dropout happens: a module and the attribute that holds its rate.

    ``rate`` is the rate now and can be set; ``base_rate`` is the rate as built. ``attribute`` is a path from the
    module: ``"p"``, an item of a tuple as in ``"layer_dropouts.3"``, or ``"config.layerdrop"``. ``twins`` are copies of
    the rate elsewhere, such as a float that was read off a dropout layer beside it; they are written together.

    Raises:
        ValueError: On setting a rate that is no number in [0, 1].
    """

    __slots__ = ("attribute", "kind", "module", "names", "twins")

    def __init__(
        self, module: nn.Module, attribute: str, *, kind: str, names: tuple[str, ...], twins: tuple[Place, ...] = ()
    ) -> None:
        self.module = module
        self.attribute = attribute
        self.kind = kind
        self.names = names
        self.twins = twins

    @property
    def name(self) -> str:
        """Path of the module, plus the attribute where the module holds several rates."""
        return self.names[0]

    @property
    def group(self) -> str:
        """The name without its indices: what repeated blocks have in common."""
        return ".".join(part for part in self.name.split(".") if not part.isdigit()) or self.name

    @property
    def depth(self) -> int:
        """Index of the block that holds the site: the first number in its name, 0 where there is none."""
        match = re.search(r"(?:^|\.)(\d+)(?:\.|$)", self.name)
        return int(match[1]) if match else 0

    @property
    def rate(self) -> float:
        """Probability of dropping now."""
        return float(read_place(self.module, self.attribute))

    @rate.setter
    def rate(self, rate: float) -> None:
        value = check_rate(rate, what=f"rate for site '{self.name}'")
        _base_rates.setdefault(self.module, {}).setdefault(self.attribute, self.rate)
        self.write(value)

    @property
    def base_rate(self) -> float:
        """Probability of dropping as built."""
        return _base_rates.get(self.module, {}).get(self.attribute, self.rate)

    def restore(self) -> None:
        """Go back to the base rate."""
        bases = _base_rates.get(self.module, {})
        if self.attribute in bases:
            self.write(bases.pop(self.attribute))

    def write(self, rate: float) -> None:
        """Put a rate in place as it is: not checked, and not remembered as a change of the base rate."""
        write_place(self.module, self.attribute, rate)
        for module, attribute in self.twins:
            write_place(module, attribute, rate)

    def __repr__(self) -> str:
        return f"Site({self.name!r}, kind={self.kind!r}, rate={self.rate:g}, base_rate={self.base_rate:g})"
