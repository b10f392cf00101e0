import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from lightning_dropout.data.windows import Windows, WindowSampler


def epoch_order(sampler, epoch):
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.uint32, torch.int64])
def test_windows_are_views_and_come_in_batches_of_int64(dtype):
    tokens = torch.arange(200).to(dtype)
    windows = Windows(tokens, context_length=4, stride=3)
    assert windows._windows.untyped_storage().data_ptr() == tokens.untyped_storage().data_ptr()
    inputs, targets = next(iter(DataLoader(windows, batch_size=2)))
    assert inputs.tolist() == [[0, 1, 2, 3], [3, 4, 5, 6]]
    assert torch.equal(targets, inputs + 1)
    assert inputs.dtype == targets.dtype == torch.int64
    assert torch.equal(windows[1][0], inputs[1])


@given(num_tokens=st.integers(2, 300), context_length=st.integers(1, 20), data=st.data())
def test_an_epoch_covers_the_sequence_once(num_tokens, context_length, data):
    context_length = min(context_length, num_tokens - 1)
    windows = Windows(torch.zeros(num_tokens, dtype=torch.uint8), context_length)
    starts = sorted(
        epoch_order(WindowSampler(windows, seed=data.draw(st.integers(0, 9))), data.draw(st.integers(0, 9)))
    )
    assert len(starts) == (num_tokens - 1) // context_length
    assert starts[0] < context_length
    assert starts[-1] <= num_tokens - context_length - 1
    assert set(np.diff(starts[:-1])) <= {context_length}


def test_the_order_depends_on_seed_and_epoch_and_not_on_the_global_random_state():
    windows = Windows(torch.zeros(1000, dtype=torch.uint8), 10)
    orders = {}
    for seed in (0, 1):
        for epoch in (0, 1):
            torch.manual_seed(seed + 7 * epoch)
            before = torch.get_rng_state()
            orders[seed, epoch] = epoch_order(WindowSampler(windows, seed=seed), epoch)
            assert torch.equal(torch.get_rng_state(), before)
            assert orders[seed, epoch] == epoch_order(WindowSampler(windows, seed=seed), epoch)
    assert len({tuple(order) for order in orders.values()}) == 4
    assert len({order[0] % 10 for order in orders.values()}) > 1


@given(num_replicas=st.integers(1, 4), num_tokens=st.integers(60, 100))
def test_ranks_share_an_epoch_without_overlap(num_replicas, num_tokens):
    windows = Windows(torch.zeros(num_tokens, dtype=torch.uint8), 5)
    whole = epoch_order(WindowSampler(windows, seed=0), 3)
    shares = [
        epoch_order(WindowSampler(windows, seed=0, num_replicas=num_replicas, rank=rank), 3)
        for rank in range(num_replicas)
    ]
    assert {len(share) for share in shares} == {len(whole) // num_replicas}
    dealt = [start for starts in zip(*shares, strict=True) for start in starts]
    assert dealt == whole[: len(dealt)]
