from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lightning_dropout import layers
from lightning_dropout.layers import Dropout
from lightning_dropout.sites import Sites, find_sites, register_site
from lightning_dropout.sites.kinds import KINDS

rates = st.floats(0.0, 1.0)


def blocks(*, num: int = 3) -> nn.Module:
    return nn.ModuleDict(
        {
            "blocks": nn.ModuleList(
                nn.ModuleDict(
                    {"attn": nn.MultiheadAttention(4, 2, dropout=0.1), "ff": Dropout(min(0.2 + 0.1 * i, 1.0))}
                )
                for i in range(num)
            )
        }
    )


def test_match_selects_by_glob_and_keeps_the_order_of_the_model() -> None:
    sites = find_sites(blocks())
    assert [s.name for s in sites.match("blocks.*.ff")] == ["blocks.0.ff", "blocks.1.ff", "blocks.2.ff"]
    assert [s.name for s in sites.match("*.2.*", "blocks.0.attn")] == ["blocks.0.attn", "blocks.2.attn", "blocks.2.ff"]
    assert len(sites.match("ff")) == 3
    assert len(sites.of_kind("attention")) == 3
    assert len(sites.of_kind("path")) == 0


def test_the_kinds_of_all_layers_are_known() -> None:
    kinds = {getattr(getattr(layers, name), "kind", "element") for name in layers.__all__}
    assert len(kinds) > 10
    assert kinds <= set(KINDS)


def test_a_kind_that_nothing_has_is_refused_unless_it_is_one_of_dropout() -> None:
    with pytest.raises(ValueError, match=r"'atention' is no kind of dropout. Found: 'attention', 'element'. Known: "):
        find_sites(blocks()).of_kind("element", "atention")
    with pytest.raises(ValueError, match="Found: no site at all"):
        find_sites(nn.Linear(1, 1)).of_kind("elements")

    class Gate(nn.Module):
        sparsity = 0.1

    register_site(Gate, "sparsity", kind="gate")
    assert len(find_sites(nn.Sequential(Gate())).of_kind("gate")) == 1


def test_a_glob_without_a_match_lists_the_names() -> None:
    with pytest.raises(ValueError, match=r"'blok\*' matches no dropout site. Found: 'blocks.0.attn', 'blocks.0.ff'"):
        find_sites(blocks()).match("blocks.*", "blok*")
    with pytest.raises(ValueError, match=r"Found: 'blocks.attn', 'blocks.ff' \(20 sites in groups\)"):
        find_sites(blocks(num=10)).match("blok*")
    with pytest.raises(ValueError, match="Found: no site at all"):
        find_sites(nn.Linear(1, 1)).match("*")


@given(rates)
def test_restore_undoes_set(rate: float) -> None:
    sites = find_sites(blocks())
    before = sites.rates()
    sites.set(rate)
    assert set(sites.rates().values()) == {rate}
    assert sites.base_rates() == before
    assert find_sites(sites[0].module).base_rates() == {"dropout": 0.1}
    sites.restore()
    assert sites.rates() == before


@given(rates)
def test_scale_keeps_the_profile(factor: float) -> None:
    sites = find_sites(blocks())
    sites.set(0.9)
    sites.scale(factor)
    assert sites.rates() == {name: factor * base for name, base in sites.base_rates().items()}


def test_scale_refuses_as_a_whole() -> None:
    sites = find_sites(blocks())
    before = sites.rates()
    with pytest.raises(ValueError, match=r"Factor 3.0 gives site 'blocks.2.ff' the rate 1.2 \(base rate 0.4\)"):
        sites.scale(3.0)
    assert sites.rates() == before


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan"), "high", None])
def test_a_rate_outside_the_unit_interval_is_refused(rate: object) -> None:
    sites = find_sites(blocks())
    with pytest.raises(ValueError, match=r"rate for site 'blocks.0.attn' is .*\[0, 1\]"):
        sites.set(rate)  # type: ignore[arg-type]


def test_override_gives_back_what_was_there_also_on_exceptions() -> None:
    sites = find_sites(blocks())
    sites.set(0.7)
    with pytest.raises(KeyError), sites.override(0.0):
        assert set(sites.rates().values()) == {0.0}
        raise KeyError
    assert set(sites.rates().values()) == {0.7}
    sites.restore()
    assert sites.rates()["blocks.2.ff"] == pytest.approx(0.4)


def test_copies_know_nothing_of_the_original() -> None:
    model = blocks()
    find_sites(model).set(0.9)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert set(find_sites(twin).base_rates().values()) == {0.9}
        find_sites(twin).set(0.1)
    assert set(find_sites(model).rates().values()) == {0.9}


def test_sites_are_a_sequence_that_prints_as_a_table() -> None:
    sites = find_sites(blocks())
    assert isinstance(sites[1:], Sites)
    assert sites[1].name == "blocks.0.ff"
    assert next(line.split() for line in str(sites).splitlines() if "blocks.1.ff" in line)[1:8:2] == [
        "blocks.1.ff",
        "element",
        "0.3",
        "0.3",
    ]
    assert str(Sites([])) == "no dropout sites"
    assert repr(sites[:1]) == "Sites([Site('blocks.0.attn', kind='attention', rate=0.1, base_rate=0.1)])"
