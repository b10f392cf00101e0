import pytest
import torch

from lightning_dropout.layers import GaussianDropout


def test_the_noise_is_normal():
    noise = GaussianDropout(0.5)(torch.ones(1000, 1000)).double() - 1.0
    assert noise.pow(3).mean().item() == pytest.approx(0.0, abs=5 * (15 / 1e6) ** 0.5)
    assert noise.pow(4).mean().item() == pytest.approx(3.0, abs=5 * (96 / 1e6) ** 0.5)
