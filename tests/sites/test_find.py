from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from lightning_dropout.layers import Dropout, Dropout2d
from lightning_dropout.sites import find_sites


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ff = Dropout(0.1)
        self.drop = nn.Dropout2d(0.2)


def test_finds_our_layers_and_torchs_with_kind_and_rate() -> None:
    model = nn.ModuleDict(
        {
            "ours": Dropout2d(0.1),
            "element": nn.Dropout(0.2),
            "channel": nn.Dropout3d(0.3),
            "alpha": nn.AlphaDropout(0.4),
            "feature": nn.FeatureAlphaDropout(0.5),
            "attention": nn.MultiheadAttention(4, 2, dropout=0.6),
            "recurrent": nn.GRU(4, 4, num_layers=2, dropout=0.7),
        }
    )
    found = {site.name: (site.kind, site.rate) for site in find_sites(model)}
    assert found == {
        "ours": ("channel", 0.1),
        "element": ("element", 0.2),
        "channel": ("channel", 0.3),
        "alpha": ("alpha", 0.4),
        "feature": ("alpha", 0.5),
        "attention": ("attention", 0.6),
        "recurrent": ("recurrent", 0.7),
    }


def test_finds_all_four_sites_of_an_encoder_layer() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, dropout=0.1)
    find_sites(layer).set(0.0)
    x = torch.ones(2, 3, 8)
    state = torch.get_rng_state()
    layer(x)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_recurrent_layer_alone_has_no_dropout_to_find() -> None:
    with pytest.warns(UserWarning, match="non-zero dropout expects num_layers greater than 1"):
        model = nn.LSTM(4, 4, num_layers=1, dropout=0.5)
    assert len(find_sites(model)) == 0


def test_subclasses_count_as_their_base() -> None:
    class Special(nn.Dropout):
        pass

    assert find_sites(nn.Sequential(Special(0.3))).rates() == {"0": 0.3}


def test_a_shared_module_is_one_site_with_all_its_names() -> None:
    shared = nn.Dropout(0.1)
    (site,) = find_sites(nn.ModuleDict({"a": shared, "b": nn.Sequential(shared)}))
    assert site.names == ("a", "b.0")


def test_wrappers_leave_no_trace_in_names() -> None:
    model = nn.ModuleDict({"blocks": nn.ModuleList([checkpoint_wrapper(Block())])})
    names = [site.name for site in find_sites(torch.compile(model))]
    assert names == ["blocks.0.ff", "blocks.0.drop"]
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        ddp = nn.parallel.DistributedDataParallel(nn.ModuleDict({"linear": nn.Linear(1, 1), **model}))
        assert [site.name for site in find_sites(ddp)] == names
    finally:
        dist.destroy_process_group()


def test_depth_and_group_come_from_the_name() -> None:
    model = nn.ModuleDict({"emb": nn.Dropout(), "blocks": nn.ModuleList([Block() for _ in range(2)])})
    sites = find_sites(model)
    assert [(site.group, site.depth) for site in sites] == [
        ("emb", 0),
        ("blocks.ff", 0),
        ("blocks.drop", 0),
        ("blocks.ff", 1),
        ("blocks.drop", 1),
    ]


def test_a_lone_layer_is_a_site_too() -> None:
    assert find_sites(nn.Dropout(0.3)).rates() == {"p": 0.3}


def test_only_modules_have_sites() -> None:
    with pytest.raises(TypeError, match=r"find_sites\(\) takes a torch.nn.Module, not list."):
        find_sites([nn.Dropout()])  # type: ignore[arg-type]
