"""Find, read and set every dropout site of any model."""

from lightning_dropout.sites.find import find_sites
from lightning_dropout.sites.site import Site
from lightning_dropout.sites.sites import Sites
from lightning_dropout.sites.storage import Storage, register_site
from lightning_dropout.sites.watch import DropoutEvent, watch_dropout
from lightning_dropout.sites.writer import SiteWriter

__all__ = [
    "DropoutEvent",
    "Site",
    "SiteWriter",
    "Sites",
    "Storage",
    "find_sites",
    "register_site",
    "watch_dropout",
]
