import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_dropout.layers import HeadDropout


@given(rate=st.floats(0, 0.999), num_heads=st.integers(1, 9), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_kept_heads_are_scaled_by_heads_over_kept_and_one_always_stays(rate, num_heads, seed):
    torch.manual_seed(seed)
    output = HeadDropout(rate)(torch.ones(20, num_heads, 2, 3))
    kept = output.amax(dim=(2, 3)) > 0
    num_kept = kept.sum(dim=1, keepdim=True)
    assert (num_kept >= 1).all()
    expected = (kept * num_heads / num_kept)[:, :, None, None].expand_as(output)
    torch.testing.assert_close(output, expected)


def test_every_head_is_as_likely_to_be_the_last_one():
    kept = HeadDropout(0.999999)(torch.ones(40_000, 4, 1, 1)) > 0
    assert kept.double().mean(dim=0).flatten().tolist() == pytest.approx([0.25] * 4, abs=5 * (0.1875 / 40_000) ** 0.5)
