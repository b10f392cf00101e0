from __future__ import annotations

import pytest
from torch import nn

from lightning_dropout.sites import find_sites, register_site


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop_rate = 0.1
        self.other_rate = 0.2


class ChildGate(Gate):
    pass


class Wrong(nn.Module):
    rate = "high"


class Empty(nn.Module):
    pass


def test_a_registered_attribute_is_a_site_also_in_subclasses() -> None:
    register_site(Gate, "drop_rate")
    assert find_sites(nn.Sequential(ChildGate())).rates() == {"0": 0.1}
    register_site(Gate, "other_rate", kind="path")
    sites = find_sites(nn.Sequential(Gate()))
    assert [(site.name, site.kind) for site in sites] == [("0.drop_rate", "element"), ("0.other_rate", "path")]
    sites.set(0.5)
    sites.restore()
    assert sites.rates() == {"0.drop_rate": 0.1, "0.other_rate": 0.2}


def test_an_attribute_that_holds_no_rate_is_named() -> None:
    register_site(Wrong, "rate")
    with pytest.raises(ValueError, match=r"Wrong.rate at '0' is 'high', which is no number"):
        find_sites(nn.Sequential(Wrong()))
    register_site(Empty, "missing")
    with pytest.raises(ValueError, match=r"Empty.missing at '0' does not exist"):
        find_sites(nn.Sequential(Empty()))


def test_only_module_classes_can_be_registered() -> None:
    with pytest.raises(TypeError, match="needs a class derived from torch.nn.Module"):
        register_site(int, "rate")  # type: ignore[arg-type]
