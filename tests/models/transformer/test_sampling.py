import torch

from lightning_dropout.models.transformer.sampling import choose_tokens

PROBABILITIES = torch.tensor([0.1, 0.4, 0.2, 0.3])


def drawn(**options):
    torch.manual_seed(0)
    tokens = choose_tokens(PROBABILITIES.log().expand(20_000, 4), **options)
    return torch.bincount(tokens, minlength=4) / 20_000


def test_temperature_1_draws_from_the_softmax():
    assert torch.allclose(drawn(temperature=1.0), PROBABILITIES, atol=0.02)


def test_temperature_sharpens():
    sharp = PROBABILITIES.square() / PROBABILITIES.square().sum()
    assert torch.allclose(drawn(temperature=0.5), sharp, atol=0.02)


def test_top_k_keeps_the_likeliest():
    assert torch.allclose(drawn(temperature=1.0, top_k=2), torch.tensor([0.0, 4 / 7, 0.0, 3 / 7]), atol=0.02)


def test_top_p_keeps_the_fewest_that_reach_it():
    assert torch.allclose(drawn(temperature=1.0, top_p=0.65), torch.tensor([0.0, 4 / 7, 0.0, 3 / 7]), atol=0.02)
    assert torch.allclose(drawn(temperature=1.0, top_p=0.01), torch.tensor([0.0, 1.0, 0.0, 0.0]))
    assert torch.allclose(drawn(temperature=1.0, top_p=1.0), PROBABILITIES, atol=0.02)


def test_top_k_and_top_p_together_keep_what_both_keep():
    assert torch.allclose(drawn(temperature=1.0, top_k=3, top_p=0.4), torch.tensor([0.0, 1.0, 0.0, 0.0]))
