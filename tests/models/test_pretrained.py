import pytest
import torch

from lightning_dropout.models import Transformer, TransformerDropout
from lightning_dropout.models.pretrained import load_causal_lm, load_transformer


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    network = Transformer(65, num_layers=2, num_heads=2, dim=16, context_length=8, dropout=TransformerDropout(attn=0.3))
    network.save_pretrained(tmp_path / "llama")
    return str(tmp_path / "llama")


def test_both_read_the_same_weights_and_leave_them_in_the_mode_of_their_house(folder):
    pytest.importorskip("transformers")
    ours, theirs = load_transformer(folder), load_causal_lm(folder)
    assert (ours.training, theirs.training) == (True, False)
    ids = torch.arange(8)[None]
    torch.testing.assert_close(ours.eval()(ids), theirs(ids).logits, atol=1e-4, rtol=1e-4)


def test_rates_are_those_of_the_folder_or_those_that_are_given(folder):
    pytest.importorskip("transformers")
    assert load_transformer(folder).config.dropout.attn == 0.3
    assert load_transformer(folder, dropout=TransformerDropout(attn=0.2)).config.dropout.attn == 0.2
    assert load_causal_lm(folder).config.attention_dropout == 0.3
    assert load_causal_lm(folder, settings={"attention_dropout": 0.2}).config.attention_dropout == 0.2


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"found no such folder"):
        load_causal_lm(str(tmp_path / "a" / "b"))
