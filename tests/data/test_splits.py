import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_dropout.data.splits import split


@given(st.lists(st.integers(0, 3), min_size=2, max_size=60), st.floats(0.05, 0.95), st.integers(0, 5))
def test_every_sample_is_on_one_side_and_every_class_on_both(labels, fraction, seed):
    labels = np.array(labels)
    train, val = split(len(labels), fraction, seed=seed, labels=labels)
    assert sorted([*train, *val]) == list(range(len(labels)))
    for label in np.unique(labels):
        counts = [(labels[part] == label).sum() for part in (train, val)]
        assert counts[0] >= 1
        if sum(counts) > 1:
            assert counts[1] >= 1
            assert abs(counts[1] - fraction * sum(counts)) <= 1


def test_the_seed_alone_decides():
    np.random.seed(1)
    first = split(100, 0.2, seed=3)
    np.random.seed(2)
    assert all(map(np.array_equal, first, split(100, 0.2, seed=3)))
    assert not np.array_equal(first[1], split(100, 0.2, seed=4)[1])
    assert len(first[1]) == 20


@pytest.mark.parametrize("num_samples", [2, 3])
def test_few_samples_are_shared_out(num_samples):
    train, val = split(num_samples, 0.01, seed=0)
    assert (len(train), len(val)) == (num_samples - 1, 1)
