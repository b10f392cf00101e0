import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.testing import CompileCounter

from lightning_dropout.layers import TokenDropout

BATCH, LENGTH = 4, 12
x = torch.arange(BATCH * LENGTH, dtype=torch.float32).reshape(BATCH, LENGTH, 1).expand(-1, -1, 3)


def test_removal_keeps_the_class_token_the_order_and_the_content():
    shorter, key_mask = TokenDropout(0.5)(x)
    assert shorter.shape == (BATCH, 1 + 5, 3)  # of 11 patches 5.5, rounded to 6, are dropped
    assert key_mask is None
    assert shorter[:, 0].equal(x[:, 0])
    assert (shorter[:, 1:, 0] > shorter[:, :-1, 0]).all()
    assert all(set(row.tolist()) <= set(whole.tolist()) for row, whole in zip(shorter[..., 0], x[..., 0], strict=True))


@pytest.mark.parametrize("num_prefix", [0, 1, 3])
def test_at_rate_1_the_prefix_stays_and_always_something(num_prefix):
    shorter, _ = TokenDropout(1.0, num_prefix=num_prefix)(x)
    assert shorter.shape[1] == max(num_prefix, 1)
    same, key_mask = TokenDropout(1.0, num_prefix=num_prefix, how="mask")(x)
    assert same is x
    assert key_mask.sum(dim=1).tolist() == [max(num_prefix, 1)] * BATCH


def test_rate_0_and_eval_change_nothing():
    padding = torch.ones(BATCH, LENGTH, dtype=torch.bool)
    for layer in (TokenDropout(0.0), TokenDropout(0.5).eval(), TokenDropout(0.5, how="mask").eval()):
        assert layer(x)[0] is x
        assert layer(x)[1] is None
        assert layer(x, padding)[1] is padding


masks = st.lists(st.lists(st.booleans(), min_size=LENGTH, max_size=LENGTH), min_size=BATCH, max_size=BATCH)


@given(key_mask=masks, rate=st.floats(0.01, 1), num_prefix=st.integers(0, 3), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_padding_is_never_kept_and_every_sample_keeps_its_share(key_mask, rate, num_prefix, seed):
    key_mask = torch.tensor(key_mask)
    torch.manual_seed(seed)
    _, kept = TokenDropout(rate, num_prefix=num_prefix, how="mask")(x, key_mask)
    prefix = key_mask & (key_mask.cumsum(dim=1) <= num_prefix)
    assert not (kept & ~key_mask).any()
    assert (kept | ~prefix).all()
    for valid, count in zip(key_mask.sum(dim=1).tolist(), kept.sum(dim=1).tolist(), strict=True):
        droppable = max(valid - num_prefix, 0)
        assert abs(valid - count - rate * droppable) <= 0.5 + 1e-5 or count == min(valid, 1)

    torch.manual_seed(seed)
    shorter, short_mask = TokenDropout(rate, num_prefix=num_prefix)(x, key_mask)
    assert shorter.shape[:2] == short_mask.shape
    for row, row_kept, whole, whole_kept in zip(shorter, short_mask, x, kept, strict=True):
        assert row[row_kept].equal(whole[whole_kept])


def test_to_what_stays_masking_is_removal():
    tokens = torch.randn(BATCH, LENGTH, 8)
    torch.manual_seed(1)
    shorter, _ = TokenDropout(0.4)(tokens)
    torch.manual_seed(1)
    _, key_mask = TokenDropout(0.4, how="mask")(tokens)
    removed = F.scaled_dot_product_attention(shorter, shorter, shorter)
    masked = F.scaled_dot_product_attention(tokens, tokens, tokens, attn_mask=key_mask[:, None, :])
    torch.testing.assert_close(masked[key_mask].reshape(removed.shape), removed)


def test_every_position_behind_the_prefix_is_as_likely_to_go():
    _, kept = TokenDropout(0.25, how="mask")(torch.empty(40_000, 9, 1))
    fractions = 1 - kept.double().mean(dim=0)
    assert fractions[0] == 0
    assert fractions[1:].tolist() == pytest.approx([0.25] * 8, abs=5 * (0.1875 / 40_000) ** 0.5)


def test_gradients_reach_the_positions_that_stay_and_only_those():
    tokens = torch.randn(2, 9, 4, requires_grad=True)
    shorter, _ = TokenDropout(0.5)(tokens)
    shorter.sum().backward()
    assert tokens.grad.sum(dim=(1, 2)).tolist() == [5 * 4.0, 5 * 4.0]
    assert set(tokens.grad.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("padded", [False, True])
def test_compiled_code_masks_instead_and_compiles_once(padded):
    torch._dynamo.reset()
    graphs = CompileCounter()
    layer = TokenDropout(0.5)
    compiled = torch.compile(layer, backend=graphs, fullgraph=True)
    padding = torch.ones(BATCH, LENGTH, dtype=torch.bool) if padded else None
    for rate, num_kept in ((0.1, 11), (0.0, 12), (0.5, 6), (0.9, 2), (1.0, 1)):
        layer.rate = rate
        same, key_mask = compiled(x, padding)
        assert same.equal(x)
        assert key_mask.sum(dim=1).tolist() == [num_kept] * BATCH
    assert graphs.frame_count == 1


def test_arguments_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match=r"^TokenDropout\(num_prefix=-1\) is negative\. Give the number of positions"):
        TokenDropout(0.1, num_prefix=-1)
    with pytest.raises(ValueError, match=r"^TokenDropout\(how='drop'\) is unknown\. Give 'remove' or 'mask'\.$"):
        TokenDropout(0.1, how="drop")
