from __future__ import annotations

import gc

import pytest
import torch
from torch import nn

from lightning_dropout.layers import ConcreteDropout, Dropout, LiveRate
from lightning_dropout.sites import Sites, SiteWriter, find_sites


def mixed() -> nn.Sequential:
    return nn.Sequential(Dropout(0.1), nn.Dropout(0.2), Dropout(0.3), nn.MultiheadAttention(4, 2, dropout=0.4))


def tensors(model: nn.Module) -> list[float]:
    return [round(m.rate_tensor.item(), 6) for m in model.modules() if isinstance(m, LiveRate)]


def test_writes_floats_and_tensors_of_all_sites_and_gives_them_back() -> None:
    model = mixed()
    sites = find_sites(model)
    writer = SiteWriter(sites, model=nn.Module(), owner="test")
    writer.set(0.5)
    assert set(sites.rates().values()) == {0.5}
    assert tensors(model) == [0.5, 0.5]
    writer.scale(0.5)
    assert list(sites.rates().values()) == [0.05, 0.1, 0.15, 0.2]
    assert tensors(model) == [0.05, 0.15]
    assert list(sites.base_rates().values()) == [0.1, 0.2, 0.3, 0.4]
    writer.release()
    assert list(sites.rates().values()) == [0.1, 0.2, 0.3, 0.4]
    assert tensors(model) == [0.1, 0.3]


def test_scale_starts_from_the_base_rates_also_where_rates_were_set_before() -> None:
    model = mixed()
    sites = find_sites(model)
    sites.set(0.9)
    writer = SiteWriter(sites, model=nn.Module(), owner="test")
    writer.scale(1.0)
    assert list(sites.rates().values()) == [0.1, 0.2, 0.3, 0.4]


def test_a_dormant_layer_is_awake_from_the_first_writer_on() -> None:
    layer = Dropout(0.0)
    assert layer.dormant
    SiteWriter(find_sites(layer), model=nn.Module(), owner="test")
    assert not layer.dormant


def test_two_writers_on_one_site_are_refused() -> None:
    model = mixed()
    sites = find_sites(model)
    first = SiteWriter(sites[:2], model=nn.Module(), owner="first")
    with pytest.raises(ValueError, match="second and first both drive site '1'. Give them globs that do not overlap."):
        SiteWriter(sites[1:], model=nn.Module(), owner="second")
    first.release()
    SiteWriter(sites[1:], model=nn.Module(), owner="second")


def test_a_writer_that_is_gone_holds_nothing() -> None:
    sites = find_sites(mixed())
    SiteWriter(sites, model=nn.Module(), owner="first")
    gc.collect()
    SiteWriter(sites, model=nn.Module(), owner="second")


def test_rates_outside_the_unit_interval_are_refused() -> None:
    writer = SiteWriter(find_sites(mixed()), model=nn.Module(), owner="Mine")
    with pytest.raises(ValueError, match=r"rate from Mine is 1.5. Give the probability of dropping"):
        writer.set(1.5)
    with pytest.raises(ValueError, match="Factor 3.0 gives site '3' the rate 1.2"):
        writer.scale(3.0)


def test_a_move_keeps_the_layers_together() -> None:
    model = mixed()
    writer = SiteWriter(find_sites(model), model=nn.Module(), owner="test")
    model.to(torch.float64)
    writer.set(0.7)
    assert tensors(model) == [0.7, 0.7]


def test_nothing_to_write_is_no_error() -> None:
    writer = SiteWriter(Sites([]), model=nn.Module(), owner="test")
    writer.set(0.1)
    writer.scale(2.0)
    writer.release()


def test_a_learned_rate_is_not_for_others_to_write() -> None:
    model = nn.Sequential(ConcreteDropout(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="Mine drives site '0', which learns its rate. Leave it out."):
        SiteWriter(find_sites(model), model=model, owner="Mine")
