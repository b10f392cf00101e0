from torch import nn

from lightning_dropout.modules.blocks import repeated_blocks


def test_blocks_are_held_by_the_outermost_lists():
    inner = nn.Sequential(nn.ModuleList([nn.Linear(1, 1)]))
    first, second, third = inner, nn.ReLU(), nn.Linear(2, 2)
    network = nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.ModuleList([first, second])), nn.ModuleList([third]))
    assert repeated_blocks(network) == [first, second, third]


def test_a_list_in_a_list_is_no_block():
    """Several libraries keep the parts of a layer in a list of their own, which cannot be called."""
    attention, feed_forward = nn.Linear(1, 1), nn.Linear(2, 2)
    layers = nn.ModuleList([nn.ModuleList([attention, feed_forward])])
    assert repeated_blocks(nn.Sequential(layers)) == [attention, feed_forward]


def test_a_plain_network_has_no_blocks():
    assert repeated_blocks(nn.Sequential(nn.Linear(1, 1))) == []
