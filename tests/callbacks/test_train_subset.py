from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.fabric.utilities.distributed import DistributedSamplerWrapper
from lightning_dropout_callbacks.train_subset import Replay, full_batch_size, only_loader, train_subset
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, SequentialSampler, SubsetRandomSampler


class Numbers(Dataset[int]):
    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, index: Any) -> Any:
        return torch.tensor(index)


class Stream(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(20))


def batches(loader: Any, **kwargs: Any) -> list[list[int]]:
    return [batch.tolist() for batch in train_subset(loader, **kwargs)]


@given(
    num_samples=st.integers(1, 60),
    num_batches=st.integers(1, 8),
    batch_size=st.integers(1, 9),
    num_ranks=st.integers(1, 4),
    seed=st.integers(0, 5),
)
def test_ranks_share_full_batches_without_a_sample_twice(
    num_samples: int, num_batches: int, batch_size: int, num_ranks: int, seed: int
) -> None:
    loader = DataLoader(Numbers(num_samples), batch_size=3, shuffle=True)
    kwargs = {"num_batches": num_batches, "batch_size": batch_size, "num_ranks": num_ranks, "seed": seed}
    if num_samples < num_ranks:
        with pytest.raises(ValueError, match=f"{num_samples} training samples are too few for {num_ranks} ranks"):
            batches(loader, **kwargs)
        return
    ranks = [batches(loader, rank=rank, **kwargs) for rank in range(num_ranks)]
    assert len({len(rank) for rank in ranks}) == 1
    assert len({len(batch) for rank in ranks for batch in rank}) == 1
    samples = [sample for rank in ranks for batch in rank for sample in batch]
    assert len(samples) == len(set(samples)) <= max(num_batches, num_ranks) * batch_size


def test_several_ranks_measure_on_the_samples_of_one() -> None:
    loader = DataLoader(Numbers(100), batch_size=5)
    alone = batches(loader, num_batches=6, batch_size=4)
    ranks = [batches(loader, num_batches=6, batch_size=4, rank=rank, num_ranks=2) for rank in (0, 1)]
    assert [batch for pair in zip(*ranks, strict=True) for batch in pair] == alone
    assert batches(loader, num_batches=6, batch_size=4, seed=1) != alone
    assert batches(loader, num_batches=6, batch_size=4) == alone


@pytest.mark.parametrize("is_wrapped", [False, True])
def test_a_subset_sampler_keeps_the_other_samples_out(is_wrapped: bool) -> None:
    sampler: Any = SubsetRandomSampler(range(30, 50))
    if is_wrapped:
        sampler = DistributedSamplerWrapper(sampler, num_replicas=2, rank=1)
    loader = DataLoader(Numbers(50), batch_size=4, sampler=sampler)
    chosen = {sample for batch in batches(loader, num_batches=5, batch_size=4) for sample in batch}
    assert chosen == set(range(30, 50))


def test_a_batch_sampler_of_the_users_own_is_passed_by() -> None:
    class Endless(BatchSampler):
        def __iter__(self) -> Iterator[Any]:
            raise AssertionError("the subset needs no order")

    loader = DataLoader(Numbers(20), batch_sampler=Endless(SequentialSampler(range(20)), 5, drop_last=False))
    assert len(batches(loader, num_batches=3, batch_size=4)) == 3


def test_datasets_that_fetch_batches_are_asked_for_batches() -> None:
    class Fetching(Numbers):
        def __getitems__(self, indices: list[int]) -> list[int]:
            return [-index for index in indices]

    assert all(max(batch) <= 0 for batch in batches(DataLoader(Fetching(9), batch_size=2), num_batches=2, batch_size=3))


def test_datasets_that_make_batches_are_indexed_as_their_sampler_does() -> None:
    single = DataLoader(Numbers(9), batch_size=None)
    assert [batch.shape for batch in train_subset(single, num_batches=4, batch_size=3)] == [()] * 4
    sampler = BatchSampler(SequentialSampler(range(9)), 2, drop_last=False)
    several = DataLoader(Numbers(9), batch_size=None, sampler=sampler)
    assert [batch.shape for batch in train_subset(several, num_batches=2, batch_size=3)] == [(3,), (3,)]


def test_streams_give_their_first_batches_in_the_loaders_collation() -> None:
    loader = DataLoader(Stream(), batch_size=7, collate_fn=lambda samples: torch.tensor(samples) * 2)
    subset = train_subset(loader, num_batches=2, batch_size=3)
    assert isinstance(subset, Replay)
    assert [batch.tolist() for batch in subset] == [[0, 2, 4], [6, 8, 10]]


def test_batches_are_replayed_as_they_were_read() -> None:
    subset = train_subset([{"x": torch.zeros(2)}, {"x": torch.ones(2)}], num_batches=5, batch_size=2)
    for batch in subset:
        batch.pop("x").add_(1.0)
    assert [batch["x"].tolist() for batch in subset] == [[0.0, 0.0], [1.0, 1.0]]


class Persistent:
    def __init__(self) -> None:
        self.loader = DataLoader(Numbers(9), num_workers=1, persistent_workers=True)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.loader)


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        (iter([1, 2]), "a list_iterator cannot be read without disturbing the training that reads it"),
        (Persistent(), "a Persistent cannot be read without disturbing the training that reads it"),
        (None, "a NoneType cannot be read without disturbing the training that reads it"),
        (DataLoader(Stream(), batch_size=9), "a Stream gives not one batch of 21 samples"),
    ],
)
def test_the_reason_is_given_where_no_subset_can_be_taken(loader: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_subset(loader, num_batches=2, batch_size=21)


def test_loaders_of_a_trainer() -> None:
    loader = DataLoader(Numbers(9), batch_size=4)
    assert only_loader({"a": [loader]}) is loader
    with pytest.raises(ValueError, match="training draws from 2 loaders at once"):
        only_loader({"a": loader, "b": loader})
    sampler = BatchSampler(SequentialSampler(range(9)), 3, drop_last=False)
    assert full_batch_size([loader, None]) == 4
    assert full_batch_size(DataLoader(Numbers(9), batch_sampler=sampler)) == 3
    assert full_batch_size([[torch.zeros(2)]]) is None
