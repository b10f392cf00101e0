"""Observe training batches for dropout that should fire and does not."""

from __future__ import annotations

import re
import sys
from dataclasses import replace

from lightning.pytorch import LightningModule
from torch import nn

from lightning_dropout.sites import DropoutEvent, Site, Sites, TrainedParts, find_sites, module_names
from lightning_dropout_callbacks.step_look import StepLook
from lightning_dropout_callbacks.violations import Violations, listed

__all__ = ["FiringProbe"]


class FiringProbe:
    """Observes training batches: does every dropout site that runs drop something?

    A site has fired if random numbers were drawn while its module ran, or if a dropout operation was seen there. Only
    what is trained is judged. Of compiled code it is only asked whether the step drew random numbers.
    """

    def __init__(self, violations: Violations) -> None:
        self.num_batches = 0
        self._violations = violations
        self._fired: set[str] = set()
        self._seed: int | None = None
        self._look: StepLook | None = None
        self._forget()

    def _forget(self) -> None:
        self._ran: dict[str, Site] = {}
        self._not_called: dict[str, Site] = {}
        self._events: dict[DropoutEvent, None] = {}

    @property
    def is_looking(self) -> bool:
        """Whether a batch is being observed."""
        return self._look is not None

    @property
    def seed(self) -> int | None:
        """What the masks of the last observed batch were drawn from; None if no site has fired."""
        return self._seed if self._fired else None

    def has_unseen(self, module: LightningModule) -> bool:
        """Whether there are sites with a rate above 0 of which it is not known yet whether they fire."""
        return any(_is_live(site) for site in self._unseen(module, TrainedParts(module)))

    def _unseen(self, module: LightningModule, parts: TrainedParts) -> list[Site]:
        known = self._fired | self._violations.silent
        return [site for site in find_sites(module) if site.name not in known and site.module in parts]

    def start_batch(self, module: LightningModule) -> None:
        """Begin to observe a batch."""
        self.close()
        self._module, self._parts = module, TrainedParts(module)
        self._sites = self._unseen(module, self._parts)
        inside = dict.fromkeys(site.module for site in self._sites)
        parents = map(self._parts.parents.get, inside)
        around = dict.fromkeys(parent for parent in parents if parent is not None)  # not by truth: some are empty
        self._look = StepLook(module, inside | around)

    def end_batch(self) -> None:
        """End the observation of a batch, if there is one."""
        if (look := self._look) is None:
            return
        self.close()
        self.num_batches += 1
        self._seed = look.seed
        names = module_names(self._module)
        calls = {(event.module, event.rate) for event in look.events if event.is_active}
        owners = {owner for owner, _ in calls}
        for site in filter(_is_live, self._sites):  # a schedule may have set the rate after the batch began
            parent = self._parts.parents.get(site.module)
            if not look.is_inside:
                has_run, has_fired = self._module in look.ran, self._module in look.drew
            elif parent is not None and (names[parent], site.rate) in calls:
                has_run = has_fired = True  # fused attention takes the rate of a layer that it does not call
            else:
                has_run, has_fired = site.module in look.ran, site.module in look.drew or names[site.module] in owners
            if has_fired:
                self._fired.add(site.name)
            if has_run:
                self._ran[site.name] = site
            elif parent in look.ran and _should_be_called(site, parent):
                self._not_called[site.name] = site
        self._events.update(dict.fromkeys(look.events))

    def close(self) -> None:
        """Stop looking; safe to call at any time."""
        if self._look is not None:
            self._look.close()
            self._look = None

    def report(self) -> None:
        """Add to the violations what the batches since the last report have shown."""
        if not (self._ran or self._not_called or self._events):
            return
        if inactive := self._inactive():
            self._violations.add("Dropout is off in training", listed(inactive), "Pass training=self.training.")
        names, named = module_names(self._module), {event.module for event in inactive}
        silent = [site for name, site in self._ran.items() if name not in self._fired]
        self._violations.add_sites(
            Sites([site for site in silent if names[site.module] not in named]),
            "run in training without dropping anything",
            "Look for .eval() calls in training_step, and for a training flag that is off.",
            training=True,
        )
        self._violations.add_sites(
            Sites([site for name, site in self._not_called.items() if name not in self._fired | self._ran.keys()]),
            "never called in training",
            "Call it in forward, or take it out.",
            training=True,
        )
        self._forget()

    def _inactive(self) -> list[DropoutEvent]:
        """The calls of trained modules that had training off, and never had it on."""
        active = {replace(event, rate=0.0) for event in self._events if event.is_active}
        modules = {name: module for module, name in module_names(self._module).items()}
        return [
            event
            for event in self._events
            if not event.is_active
            and replace(event, rate=0.0, is_active=True) not in active
            and modules.get(event.module or "") in self._parts
        ]


def _is_live(site: Site) -> bool:
    return 0.0 < site.rate < 1.0  # at rate 1 torch draws nothing


def _should_be_called(site: Site, parent: nn.Module) -> bool:
    """Whether ``parent``, which ran, has forgotten the layer ``site``.

    Attention in other libraries' kernels takes the rate of a layer without calling it; and what installed code does not
    call is not for its user to mend.
    """
    file = getattr(sys.modules.get(type(parent).__module__), "__file__", None) or ""
    is_layer = next(site.module.parameters(), None) is None and next(site.module.children(), None) is None
    return is_layer and site.kind != "attention" and not re.search("(site|dist)-packages", file)
