"""Write the rates of many sites at the cost of a few operations."""

from __future__ import annotations

from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

import torch
from torch import nn

from lightning_dropout.layers.rate import LiveRate, RateVector, check_rate
from lightning_dropout.sites.live import attach, detach, is_attachable
from lightning_dropout.sites.site import Site
from lightning_dropout.sites.sites import Sites

__all__ = ["SiteWriter"]

_claims: WeakKeyDictionary[nn.Module, dict[str, ReferenceType[SiteWriter]]] = WeakKeyDictionary()


class SiteWriter:
    """Writes the rates of ``sites`` every step, as their only writer.

    Compiled code reads all rates from one shared vector, which is written with one operation per device however many
    sites there are. In eager, the layers of this package read from the same memory; other modules keep their rate in
    an attribute of their own, which is set in a loop over their dictionaries.

    Args:
        sites: What to write to.
        model: The model that the sites were found in, on its device.
        owner: Who writes, for the message to a second writer.

    Raises:
        ValueError: If another living writer has one of the sites, or a site learns its rate.

    Example:
        >>> from lightning_dropout.sites import find_sites
        >>> model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.1))
        >>> sites = find_sites(model)
        >>> with SiteWriter(sites, model=model) as writer:
        ...     for step in range(3):
        ...         writer.set(step / 10)
        ...         print(sites.rates())
        {'1': 0.0}
        {'1': 0.1}
        {'1': 0.2}
        >>> sites.rates()
        {'1': 0.1}
    """

    def __init__(self, sites: Sites, *, model: nn.Module, owner: str = "a SiteWriter") -> None:
        self.sites = sites
        self.owner = owner
        self._what = f"rate from {owner}"  # not made anew in every step
        self._claim()
        self._bases = torch.tensor(list(sites.base_rates().values()), dtype=torch.float64)
        self._largest = Sites(sorted(sites, key=lambda site: site.base_rate)[-1:])
        self._vector = RateVector(list(sites.rates().values()))
        # A live class keeps the float in the dictionary of the module; what has none is written site by site.
        self._floats: list[tuple[dict[str, Any], str, float]] = []
        self._others: list[tuple[Site, float]] = []
        self._attached: list[tuple[nn.Module, str, nn.Module | None]] = []
        self._bind(model)

    def _claim(self) -> None:
        for site in self.sites:
            if site.kind == "concrete":
                raise ValueError(f"{self.owner} drives site {site.name!r}, which learns its rate. Leave it out.")
            other = _claims.get(site.module, {}).get(site.attribute, lambda: None)()
            if other is not None:
                raise ValueError(
                    f"{self.owner} and {other.owner} both drive site {site.name!r}. "
                    "Give them globs that do not overlap."
                )
        for site in self.sites:
            _claims.setdefault(site.module, {})[site.attribute] = ref(self)
            site.rate = site.rate  # records the base rate

    def _bind(self, model: nn.Module) -> None:
        device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
        around = {child: (parent, name) for parent in model.modules() for name, child in parent.named_children()}
        for index, site in enumerate(self.sites):
            if isinstance(site.module, LiveRate):
                site.module.bind(self._vector, index, device)
                site.module.dormant = False
            elif is_attachable(site):
                rate = (self._vector.on(device)[index], self._vector.on(torch.device("cpu"))[index])
                for module, attribute in ((site.module, site.attribute), *site.twins):
                    parent, name = around.get(module, (None, ""))
                    attach(module, attribute, rate, parent=parent, child_name=name)
                    self._attached.append((module, attribute, parent))
                    self._floats.append((vars(module), attribute, site.base_rate))
            else:
                self._others.append((site, site.base_rate))

    def set(self, rate: float) -> None:
        """Give every site the same rate.

        Raises:
            ValueError: If the rate is no number in [0, 1].
        """
        rate = check_rate(rate, what=self._what)
        self._vector.fill(rate)
        for values, attribute, _ in self._floats:
            values[attribute] = rate
        for site, _ in self._others:
            site.write(rate)

    def scale(self, factor: float) -> None:
        """Give every site ``factor`` times its base rate.

        Raises:
            ValueError: If a rate would leave [0, 1].
        """
        self._largest.check_factor(factor)
        self._vector.write(self._bases * factor)
        for values, attribute, base in self._floats:
            values[attribute] = factor * base
        for site, base in self._others:
            site.write(factor * base)

    def release(self) -> None:
        """Give the sites their base rates again and leave them to others."""
        try:
            while self._attached:
                module, attribute, parent = self._attached.pop()
                detach(module, attribute, parent=parent)
        finally:
            self.sites.restore()
            for site in self.sites:
                _claims.get(site.module, {}).pop(site.attribute, None)

    def __enter__(self) -> SiteWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()
