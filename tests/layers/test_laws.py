"""The laws that all dropout layers share, each stated once and held against every layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.checkpoint import checkpoint

from lightning_dropout import layers
from lightning_dropout.layers import (
    AlphaDropout,
    AttentionDropout,
    ContextDropout,
    DropBlock2d,
    DropConnect,
    Dropout,
    Dropout1d,
    Dropout2d,
    Dropout3d,
    DropPath,
    EmbeddingDropout,
    FeatureAlphaDropout,
    GaussianDropout,
    HeadDropout,
    LayerDropout,
    LiveRate,
    LockedDropout,
    TokenDropout,
)

# |z| < 5 holds for a correct layer with probability 1 - 6e-7; the seed is fixed.
CONFIDENCE_Z = 5.0
NUM_DRAWS = 1_000_000


class Weight(nn.Module):
    """Its output is its weight, so what DropConnect does can be seen without arithmetic on top."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(0))

    def forward(self) -> Tensor:
        return self.weight


class Table(nn.Module):
    """An embedding whose vectors are the given tensor."""

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.vectors, self.num_embeddings = vectors, len(vectors)

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.vectors)


def embed(layer: nn.Module, x: Tensor) -> Tensor:
    return layer(Table(x), torch.arange(len(x)))


def connect(layer: nn.Module, x: Tensor) -> Tensor:
    return torch.func.functional_call(layer, {"module.weight": x}, ())


def head_variance(rate: float, num_heads: int = 4) -> float:
    """H * E[1 / kept] - 1, where the number kept is binomial, but at least 1."""
    shares = (math.comb(num_heads, k) * (1 - rate) ** k * rate ** (num_heads - k) for k in range(num_heads + 1))
    return num_heads * sum(share / max(k, 1) for k, share in enumerate(shares)) - 1


def inverted(rate: float) -> float:
    return rate / (1 - rate)


@dataclass(frozen=True)
class Case:
    """One layer, how to run it as a function of one tensor, and what is known of its distribution.

    ``draws`` is the shape of an input with ``NUM_DRAWS`` masks along its leading dimensions and two entries that share
    each mask along the last ones, if entries share masks. A case without it has a test file for its distribution.
    """

    build: Callable[[float], nn.Module]
    shape: tuple[int, ...]
    run: Callable[[nn.Module, Tensor], Tensor] = lambda layer, x: layer(x)
    draws: tuple[int, ...] | None = None
    num_shared: int = 0
    variance: Callable[[float], float] = inverted
    dropped: Callable[[float], float] = lambda rate: rate


CASES = {
    "Dropout": Case(Dropout, (4, 8, 6), draws=(1000, 1000)),
    "Dropout1d": Case(Dropout1d, (4, 8, 6), draws=(1000, 1000, 2), num_shared=1),
    "Dropout2d": Case(Dropout2d, (4, 8, 3, 3), draws=(1000, 1000, 1, 2), num_shared=2),
    "Dropout3d": Case(Dropout3d, (4, 8, 2, 3, 3), draws=(1000, 1000, 1, 1, 2), num_shared=3),
    "AlphaDropout": Case(AlphaDropout, (4, 8, 6)),
    "FeatureAlphaDropout": Case(FeatureAlphaDropout, (4, 8, 6)),
    "GaussianDropout": Case(GaussianDropout, (4, 8, 6), draws=(1000, 1000), dropped=lambda rate: 0.0),
    "LockedDropout": Case(LockedDropout, (4, 6, 8), draws=(1000, 2, 1000)),
    "EmbeddingDropout": Case(EmbeddingDropout, (12, 4), run=embed, draws=(1_000_000, 2), num_shared=1),
    "HeadDropout": Case(
        HeadDropout,
        (4, 4, 5, 3),
        draws=(250_000, 4, 1, 2),
        num_shared=2,
        variance=head_variance,
        dropped=lambda rate: rate - rate**4 / 4,
    ),
    "DropPath-row": Case(DropPath, (6, 4, 3), draws=(1_000_000, 2), num_shared=1),
    "DropPath-batch": Case(lambda rate: DropPath(rate, mode="batch"), (6, 4, 3)),
    "LayerDropout": Case(LayerDropout, (4, 8, 6), run=lambda layer, x: layer(torch.zeros_like(x), x)),
    "DropBlock2d": Case(lambda rate: DropBlock2d(rate, block_size=3), (2, 4, 7, 6)),
    "DropConnect": Case(lambda rate: DropConnect(Weight(), rate), (8, 6), run=connect, draws=(1000, 1000)),
}
every_layer = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
CASES_WITH_DRAWS = {name: case for name, case in CASES.items() if case.draws}
layers_with_draws = pytest.mark.parametrize("case", CASES_WITH_DRAWS.values(), ids=CASES_WITH_DRAWS)
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)


def test_no_layer_escapes_the_laws() -> None:
    exported = {layer for layer in vars(layers).values() if isinstance(layer, type) and issubclass(layer, LiveRate)}
    other_outputs = {TokenDropout, AttentionDropout, ContextDropout}
    assert {type(case.build(0.1)) for case in CASES.values()} == exported - {LiveRate} - other_outputs


def one_entry_per_mask(case: Case, output: Tensor) -> Tensor:
    if isinstance(case.build(0.0), LockedDropout):
        return output[:, 0]
    return output.flatten(output.dim() - case.num_shared)[..., 0] if case.num_shared else output


@every_layer
@every_dtype
def test_rate_0_is_the_identity_and_draws_nothing(case: Case, dtype: torch.dtype) -> None:
    x = torch.randn(case.shape, dtype=dtype)
    before = torch.get_rng_state()
    output = case.run(case.build(0.0), x)
    assert output.dtype == dtype
    assert output.equal(x)
    assert torch.get_rng_state().equal(before)


@every_layer
@pytest.mark.parametrize("rate", [0.3, 1.0])
def test_eval_is_the_identity(case: Case, rate: float) -> None:
    x = torch.randn(case.shape)
    assert case.run(case.build(rate).eval(), x).equal(x)


@every_layer
@every_dtype
def test_rate_1_gives_zeros_with_finite_gradients(case: Case, dtype: torch.dtype) -> None:
    x = torch.randn(case.shape, dtype=dtype, requires_grad=True)
    output = case.run(case.build(1.0), x)
    output.sum().backward()
    assert output.dtype == dtype
    assert not output.any()
    assert not x.grad.any()


@layers_with_draws
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_mean_and_variance_are_those_of_the_formula(case: Case, rate: float) -> None:
    output = one_entry_per_mask(case, case.run(case.build(rate), torch.ones(case.draws))).double().flatten()
    if isinstance(case.build(0.0), HeadDropout):
        output = output[:: case.shape[1]]  # the heads of one sample share their scale
    deviations = output - 1.0
    variance = deviations.square().mean().item()
    assert abs(deviations.mean().item()) < CONFIDENCE_Z * math.sqrt(case.variance(rate) / len(output))
    spread = (deviations.pow(4).mean().item() - variance**2) ** 0.5
    assert abs(variance - case.variance(rate)) < CONFIDENCE_Z * spread / math.sqrt(len(output)) + 1e-6


@layers_with_draws
@every_dtype
@pytest.mark.parametrize("rate", [0.001, 0.3])
def test_fraction_dropped_is_the_rate(case: Case, rate: float, dtype: torch.dtype) -> None:
    output = one_entry_per_mask(case, case.run(case.build(rate), torch.ones(case.draws, dtype=dtype)))
    expected = case.dropped(rate)
    tolerance = CONFIDENCE_Z * math.sqrt(expected * (1 - expected) / output.numel())
    assert (output == 0).double().mean().item() == pytest.approx(expected, abs=tolerance)


@every_layer
@pytest.mark.parametrize("rate", [0.3, 1.0])
def test_gradients_are_those_of_the_fixed_mask(case: Case, rate: float) -> None:
    layer = case.build(rate)

    def masked(x: Tensor) -> Tensor:
        torch.manual_seed(3)
        return case.run(layer, x)

    assert torch.autograd.gradcheck(
        masked, torch.randn(case.shape, dtype=torch.float64, requires_grad=True), fast_mode=True
    )


@every_layer
def test_activation_checkpointing_recomputes_the_same_mask(case: Case) -> None:
    layer, gradients = case.build(0.5), []
    for run in (case.run, partial(checkpoint, case.run, use_reentrant=False)):
        x = torch.ones(case.shape, requires_grad=True)
        torch.manual_seed(3)
        run(layer, x).square().sum().backward()
        gradients.append(x.grad)
    assert gradients[0].equal(gradients[1])


@every_layer
def test_compiles_once_per_mode_while_the_rate_changes(case: Case) -> None:
    torch._dynamo.reset()
    graphs = CompileCounterWithBackend("aot_eager")
    layer, x = case.build(0.5), torch.ones(case.shape, requires_grad=True)
    compiled = torch.compile(lambda x: case.run(layer, x), backend=graphs, fullgraph=True)
    for rate in (0.3, 0.0, 0.6, 1.0, 0.1, 0.2, 0.4, 0.7, 0.8, 0.9):
        layer.rate, x.grad = rate, None
        output = compiled(x)
        output.sum().backward()
        assert x.grad.isfinite().all()
        if rate == 0.0:
            assert output.equal(x)
        if rate == 1.0:
            assert not output.any()
            assert not x.grad.any()
    assert graphs.frame_count == 1
    layer.eval()
    for layer.rate in (0.3, 0.6, 1.0):
        assert compiled(x).equal(x)
    assert graphs.frame_count <= 2  # a graph without operations is not counted


def test_inductor_drops_the_same_fractions_as_eager() -> None:
    torch._dynamo.reset()
    network = nn.ModuleList(case.build(0.5) for case in CASES_WITH_DRAWS.values())

    def forward(inputs: list[Tensor]) -> list[Tensor]:
        return [case.run(layer, x) for case, layer, x in zip(CASES_WITH_DRAWS.values(), network, inputs, strict=True)]

    compiled = torch.compile(forward, fullgraph=True)
    inputs = [torch.ones(case.draws) for case in CASES_WITH_DRAWS.values()]
    for rate in (0.001, 0.3):
        for layer in network:
            layer.rate = rate
        for (name, case), output in zip(CASES_WITH_DRAWS.items(), compiled(inputs), strict=True):
            entries, expected = one_entry_per_mask(case, output), case.dropped(rate)
            tolerance = CONFIDENCE_Z * math.sqrt(expected * (1 - expected) / entries.numel())
            assert (entries == 0).double().mean().item() == pytest.approx(expected, abs=tolerance), name
            assert entries.double().mean().item() == pytest.approx(1.0, abs=0.01), name
