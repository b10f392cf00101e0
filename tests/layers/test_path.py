import math

import pytest
import torch

from lightning_dropout.layers import DropPath


def test_agrees_with_the_published_formula_on_the_same_mask():
    """x + b * branch / (1 - p), b = 0 or 1 for every sample."""
    x, drop_path = torch.randn(100, 3, 4), DropPath(0.3)
    torch.manual_seed(1)
    b = drop_path(torch.ones(100, 1, 1)) > 0
    torch.manual_seed(1)
    torch.testing.assert_close(drop_path(x), x.div(0.7) * b)


@pytest.mark.parametrize("rate", [0.2, 0.7])
def test_batch_mode_draws_once_for_the_batch(rate):
    drop_path = DropPath(rate, mode="batch")
    draws = torch.stack([drop_path(torch.ones(3, 2)) for _ in range(10_000)]).flatten(1)
    assert draws.equal(draws[:, :1].expand(-1, 6))
    spread = math.sqrt(rate / (1 - rate) / 10_000)
    assert draws[:, 0].mean().item() == pytest.approx(1.0, abs=5 * spread)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match=r"^DropPath\(mode='rows'\) is unknown\. Give 'row' or 'batch'\.$"):
        DropPath(0.1, mode="rows")
