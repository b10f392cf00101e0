"""Write the rates of many sites at the cost of a few operations."""

from __future__ import annotations

from weakref import ReferenceType, WeakKeyDictionary, ref

import torch
from torch import nn

from lightning_dropout.layers.rate import LiveRate, RateVector, check_rate
from lightning_dropout.sites.sites import Sites

__all__ = ["SiteWriter"]

_claims: WeakKeyDictionary[nn.Module, dict[str, ReferenceType[SiteWriter]]] = WeakKeyDictionary()


class SiteWriter:
    """Writes the rates of ``sites`` every step, as their only writer.

    The layers of this package read from one shared vector, which is written with one host and one device operation
    however many there are. Other modules keep their rate in an attribute of their own, which is set in a loop.

    Args:
        sites: What to write to.
        owner: Who writes, for the message to a second writer.
        device: Where the model is.

    Raises:
        ValueError: If another living writer has one of the sites.
    """

    def __init__(self, sites: Sites, *, owner: str, device: torch.device) -> None:
        self.sites = sites
        self.owner = owner
        for site in sites:
            other = _claims.get(site.module, {}).get(site.attribute, lambda: None)()
            if other is not None:
                raise ValueError(
                    f"{owner} and {other.owner} both drive site {site.name!r}. Give them globs that do not overlap."
                )
        for site in sites:
            _claims.setdefault(site.module, {})[site.attribute] = ref(self)
            site.rate = site.rate  # records the base rate
        self._bases = torch.tensor([site.base_rate for site in sites], dtype=torch.float64)
        live = [i for i, site in enumerate(sites) if isinstance(site.module, LiveRate)]
        self._live_bases = self._bases[live]
        self._vector = RateVector([sites[i].rate for i in live]) if live else None
        for index, i in enumerate(live):
            module = sites[i].module
            assert isinstance(module, LiveRate)
            assert self._vector is not None
            module.bind(self._vector, index, device)
            module.dormant = False
        self._largest = Sites(sorted(sites, key=lambda site: site.base_rate)[-1:])
        self._others = [(site, site.base_rate) for site in sites if not isinstance(site.module, LiveRate)]

    def set(self, rate: float) -> None:
        """Give every site the same rate.

        Raises:
            ValueError: If the rate is no number in [0, 1].
        """
        rate = check_rate(rate, what=f"rate from {self.owner}")
        if self._vector is not None:
            self._vector.fill(rate)
        for site, _ in self._others:
            setattr(site.module, site.attribute, rate)

    def scale(self, factor: float) -> None:
        """Give every site ``factor`` times its base rate.

        Raises:
            ValueError: If a rate would leave [0, 1].
        """
        self._largest.check_factor(factor)
        if self._vector is not None:
            self._vector.write(self._live_bases * factor)
        for site, base in self._others:
            setattr(site.module, site.attribute, factor * base)

    def release(self) -> None:
        """Give the sites their base rates again and leave them to others."""
        self.sites.restore()
        for site in self.sites:
            _claims.get(site.module, {}).pop(site.attribute, None)
