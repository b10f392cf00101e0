import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_dropout.layers import DropBlock2d


def published(x, rate, size, seed):
    """The paper's algorithm, block by block, with the random numbers of the layer."""
    height, width = x.shape[-2:]
    places = (height - size + 1, width - size + 1)
    gamma = rate / size**2 * height * width / math.prod(places)
    torch.manual_seed(seed)
    mask = torch.ones_like(x)
    for sample, channel, row, column in (torch.rand(*x.shape[:2], *places) < gamma).nonzero().tolist():
        mask[sample, channel, row : row + size, column : column + size] = 0
    return x * mask * mask.numel() / mask.sum()


@pytest.mark.parametrize(("height", "width", "size"), [(8, 8, 3), (9, 6, 2), (5, 5, 5), (4, 7, 1)])
@pytest.mark.parametrize("rate", [0.1, 0.4])
def test_agrees_with_the_published_algorithm_on_the_same_mask(height, width, size, rate):
    x = torch.randn(4, 6, height, width)
    torch.manual_seed(5)
    output = DropBlock2d(rate, block_size=size)(x)
    torch.testing.assert_close(output, published(x, rate, size, 5))
    assert (output == 0).any()


@given(
    rate=st.floats(0, 1),
    size=st.integers(1, 4),
    height=st.integers(4, 9),
    width=st.integers(4, 9),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_the_mean_of_the_maps_is_kept_unless_everything_is_dropped(rate, size, height, width, seed):
    torch.manual_seed(seed)
    output = DropBlock2d(rate, block_size=size)(torch.ones(2, 3, height, width))
    assert output.mean().item() == pytest.approx(1.0 if output.any() else 0.0, abs=1e-5)


@pytest.mark.parametrize("rate", [0.1, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_position_is_dropped_if_any_of_the_blocks_that_reach_it_is_seeded(rate, dtype):
    num_maps, size, side = 40_000, 3, 6
    dropped = DropBlock2d(rate, block_size=size)(torch.ones(num_maps, 1, side, side, dtype=dtype)) == 0
    reach = torch.tensor([min(i, side - size) - max(0, i - size + 1) + 1 for i in range(side)])
    gamma = rate / size**2 * side**2 / (side - size + 1) ** 2
    expected = 1 - (1 - gamma) ** (reach[:, None] * reach).double()
    tolerance = 5 * (expected * (1 - expected) / num_maps).sqrt()
    assert ((dropped.double().mean(dim=(0, 1)) - expected).abs() < tolerance).all()


def test_extreme_block_sizes_are_element_and_channel_dropout():
    ones = torch.ones(200, 500, 3, 3)
    by_element = DropBlock2d(0.3, block_size=1)(ones) == 0
    assert by_element.double().mean().item() == pytest.approx(0.3, abs=5 * math.sqrt(0.21 / ones.numel()))
    by_channel = DropBlock2d(0.3, block_size=3)(ones) == 0
    assert by_channel.equal(by_channel[..., :1, :1].expand_as(by_channel))
    assert by_channel.double().mean().item() == pytest.approx(0.3, abs=5 * math.sqrt(0.21 / 100_000))


@pytest.mark.parametrize("mode", [True, False])
def test_a_block_larger_than_the_map_is_refused(mode):
    layer = DropBlock2d(0.1, block_size=7).train(mode)
    with pytest.raises(
        ValueError, match=r"^DropBlock2d\(block_size=7\) got a map of 8x6\. Give a block no larger than"
    ):
        layer(torch.ones(1, 1, 8, 6))


def test_a_block_without_size_is_refused():
    with pytest.raises(ValueError, match=r"^DropBlock2d\(block_size=0\) is no size\. Give a whole number from 1\.$"):
        DropBlock2d(0.1, block_size=0)
