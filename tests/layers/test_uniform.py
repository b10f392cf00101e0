import math

import pytest
import torch

from lightning_dropout.layers import Dropout
from lightning_dropout.layers.uniform import uniform

CPU = torch.device("cpu")
NUM_ROWS, NUM_COLUMNS = 1024, 512
#: |z| < 5 holds with probability 1 - 6e-7; the seed is fixed.
CONFIDENCE_Z = 5.0


@torch.compile(backend="eager", fullgraph=True, dynamic=False)
def compiled(shape):
    return uniform(shape, CPU)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def standardized():
    return (compiled((NUM_ROWS, NUM_COLUMNS)) - 0.5) * math.sqrt(12)


def z_score(products):
    """Of the mean of products of independent numbers with mean 0 and variance 1."""
    return abs(products.double().mean().item()) * math.sqrt(products.numel())


@pytest.mark.parametrize("shape", [(NUM_ROWS, NUM_COLUMNS), (2**19,), (2**19, 1), (2**10, 8, 8, 8)], ids=str)
def test_numbers_are_uniform(shape):
    numbers = compiled(shape)
    assert numbers.shape == shape
    assert numbers.dtype == torch.float32
    assert 0.0 <= numbers.min() < numbers.max() < 1.0
    num_bins = 2**12
    expected = numbers.numel() / num_bins
    counts = torch.bincount((numbers.flatten() * num_bins).long(), minlength=num_bins)
    chi_square = ((counts - expected) ** 2 / expected).sum().item()
    assert abs(chi_square - num_bins) / math.sqrt(2 * num_bins) < CONFIDENCE_Z


def test_a_scalar_is_drawn_anew_every_time():
    numbers = torch.stack([compiled(()) for _ in range(1000)])
    assert numbers.mean().item() == pytest.approx(0.5, abs=CONFIDENCE_Z / math.sqrt(12 * 1000))
    assert len(numbers.unique()) > 990


@pytest.mark.parametrize("lag", [1, 2, 3, 16, 64, 256])
@pytest.mark.parametrize("dim", [0, 1])
def test_neighbours_do_not_depend_on_each_other(dim, lag):
    numbers = standardized()
    assert z_score(numbers * numbers.roll(lag, dims=dim)) < CONFIDENCE_Z


@pytest.mark.parametrize("lag", [1, 16])
def test_the_corners_of_a_rectangle_do_not_depend_on_each_other(lag):
    numbers = standardized()
    pairs = numbers * numbers.roll(lag, dims=0)
    assert z_score(pairs * pairs.roll(lag, dims=1)) < CONFIDENCE_Z


def test_two_draws_do_not_depend_on_each_other():
    assert z_score(standardized() * standardized()) < CONFIDENCE_Z


def test_a_seed_gives_the_same_numbers_again():
    first = compiled((8, 8))
    torch.manual_seed(0)
    assert compiled((8, 8)).equal(first)
    assert not compiled((8, 8)).equal(first)


def test_compiled_dropout_keeps_no_mask_for_the_backward_pass():
    layers = torch.nn.Sequential(*(torch.nn.Sequential(torch.nn.Linear(64, 64), Dropout(0.1)) for _ in range(3)))
    step = torch.compile(lambda x: x + layers(x), backend="aot_eager_decomp_partition")
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        step(torch.randn(256, 64, requires_grad=True)).sum().backward()
    assert kept
    assert not [tensor.shape for tensor in kept if tensor.numel() == 256 * 64 and not tensor.is_floating_point()]
