import pytest
import torch

from lightning_dropout.layers import LockedDropout


@pytest.mark.parametrize(("time_dim", "shape"), [(1, (6, 5, 40)), (0, (5, 6, 40)), (-2, (6, 5, 40))])
def test_one_mask_for_all_time_steps_and_one_per_sample(time_dim, shape):
    x = torch.randn(shape)
    output = LockedDropout(0.5, time_dim=time_dim)(x)
    kept = (output != 0).movedim(time_dim, 0)
    assert kept.equal(kept[:1].expand_as(kept))
    assert len({tuple(mask.tolist()) for mask in kept[0]}) == 6
    torch.testing.assert_close(output, torch.where(output != 0, x / 0.5, 0.0))
