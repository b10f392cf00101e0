import math

import pytest
import torch

from lightning_dropout.models import RotaryConfig, RotaryScaling
from lightning_dropout.models.transformer.positions import Rotary, SinusoidalPositions, rotate


def turned(vector, rotary, positions=slice(None)):
    """``vector`` at every position, ``(length, dim)``."""
    rotation = rotary(positions)
    return rotate(vector.expand(1, rotation.shape[0], 1, -1), rotation)[0, :, 0]


def test_rotation_keeps_lengths_and_makes_scores_depend_on_the_distance_only():
    rotary = Rotary(64, 8, RotaryConfig())
    q, k = torch.randn(8), torch.randn(8)
    assert torch.allclose(turned(q, rotary).norm(dim=-1), q.norm().expand(64), atol=1e-5)
    scores = turned(q, rotary) @ turned(k, rotary).T
    for distance in (0, 1, 5):
        diagonal = scores.diagonal(distance)
        assert torch.allclose(diagonal, diagonal[0].expand_as(diagonal), atol=1e-4)
    assert not torch.allclose(scores[0, 1], scores[0, 5])


def test_rows_may_stand_at_different_positions():
    rotary = Rotary(64, 8, RotaryConfig())
    x, positions = torch.randn(2, 3, 4, 8), torch.tensor([[0, 1, 2], [7, 8, 9]])
    rows = [rotate(x[row : row + 1], rotary(positions[row])) for row in range(2)]
    assert torch.equal(rotate(x, rotary(positions)), torch.cat(rows))


def test_bfloat16_is_turned_in_fp32():
    rotary = Rotary(512, 8, RotaryConfig())
    x = torch.randn(1, 512, 1, 8).bfloat16()
    assert torch.equal(rotate(x, rotary(slice(None))), rotate(x.float(), rotary(slice(None))).bfloat16())


def test_scaled_rotations_are_slower_only_where_they_are_slow():
    scaling = RotaryScaling(factor=8.0, original_context_length=1024)
    plain = Rotary(2, 128, RotaryConfig(base=500_000.0)).table[1, 0]
    scaled = Rotary(2, 128, RotaryConfig(base=500_000.0, scaling=scaling)).table[1, 0]
    angles, slower = torch.atan2(plain[:, 1], plain[:, 0]), torch.atan2(scaled[:, 1], scaled[:, 0])
    factors = angles / slower
    num_turns = 1024 * angles / (2 * math.pi)
    assert torch.allclose(factors[num_turns > 4], torch.tensor(1.0))
    assert torch.allclose(factors[num_turns < 1], torch.tensor(8.0), rtol=1e-3)
    between = factors[(num_turns > 1) & (num_turns < 4)]
    assert len(between) > 3
    assert ((between > 1) & (between < 8)).all()


@pytest.mark.parametrize("dim", [8, 7])
def test_sinusoids_follow_the_formula(dim):
    table = SinusoidalPositions(50, dim, std=0.5**0.5).table
    for position, column in [(0, 0), (3, 2), (49, 5)]:
        angle = position / 10000 ** ((column - column % 2) / dim)
        expected = math.cos(angle) if column % 2 else math.sin(angle)
        assert table[position, column].item() == pytest.approx(expected, abs=1e-5)
