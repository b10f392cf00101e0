import pytest
import torch
from torch import nn

from lightning_dropout.layers import AddNorm, Dropout

x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
EXPECTED = {
    ("pre", "branch"): lambda f, norm, drop: x + drop(f(norm(x))),
    ("pre", "sum"): lambda f, norm, drop: drop(x + f(norm(x))),
    ("post", "branch"): lambda f, norm, drop: norm(x + drop(f(x))),
    ("post", "sum"): lambda f, norm, drop: norm(drop(x + f(x))),
    ("sublayer", "branch"): lambda f, norm, drop: x + drop(norm(f(x))),
    ("sublayer", "sum"): lambda f, norm, drop: drop(x + norm(f(x))),
}


@pytest.mark.parametrize(("position", "drop_on"), EXPECTED, ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_every_form_is_its_formula(position, drop_on, training):
    ff, norm = nn.Linear(8, 8), nn.LayerNorm(8)
    block = AddNorm(norm, 0.4, position=position, drop_on=drop_on).train(training)
    torch.manual_seed(1)
    output = block(x, ff)
    torch.manual_seed(1)
    assert output.equal(EXPECTED[position, drop_on](ff, norm, Dropout(0.4).train(training)))


def test_the_sum_is_dropped_and_scaled():
    block = AddNorm(nn.LayerNorm(8), 0.5, position="sublayer", drop_on="sum")
    output, whole = block(x, nn.Identity()), x + nn.LayerNorm(8)(x)
    assert 0 < (output == 0).sum() < output.numel()
    torch.testing.assert_close(output, torch.where(output == 0, 0.0, 2 * whole))


def test_unknown_forms_are_refused():
    with pytest.raises(
        ValueError, match=r"^AddNorm\(position='mid'\) is unknown\. Give 'pre', 'post' or 'sublayer'\.$"
    ):
        AddNorm(nn.LayerNorm(8), 0.1, position="mid")
    with pytest.raises(ValueError, match=r"^AddNorm\(drop_on='norm'\) is unknown\. Give 'branch' or 'sum'\.$"):
        AddNorm(nn.LayerNorm(8), 0.1, drop_on="norm")
