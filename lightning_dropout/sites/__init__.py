"""Find, read, set, trace and audit every dropout site of any model."""

from lightning_dropout.sites.auditing import audit
from lightning_dropout.sites.find import find_sites
from lightning_dropout.sites.findings import Audit, Finding
from lightning_dropout.sites.location import module_names
from lightning_dropout.sites.site import Site
from lightning_dropout.sites.site_trace import DropoutOperation, SiteTrace
from lightning_dropout.sites.sites import Sites
from lightning_dropout.sites.storage import Storage, register_site
from lightning_dropout.sites.trace import trace_sites
from lightning_dropout.sites.trained_parts import TrainedParts
from lightning_dropout.sites.watch import DropoutEvent, intended_dropout, watch_dropout
from lightning_dropout.sites.writer import SiteWriter

__all__ = [
    "Audit",
    "DropoutEvent",
    "DropoutOperation",
    "Finding",
    "Site",
    "SiteTrace",
    "SiteWriter",
    "Sites",
    "Storage",
    "TrainedParts",
    "audit",
    "find_sites",
    "intended_dropout",
    "module_names",
    "register_site",
    "trace_sites",
    "watch_dropout",
]
