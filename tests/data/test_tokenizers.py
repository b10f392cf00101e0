import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_dropout.data import CharTokenizer


@given(st.text())
def test_decode_undoes_encode(text):
    tokenizer = CharTokenizer.from_text(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.vocab_size == len(set(text) | {"\ufffd"})


def test_the_vocabulary_is_sorted_and_begins_with_the_unknown_token():
    tokenizer = CharTokenizer.from_text("née 𝄞 \ufffd")
    assert tokenizer.vocabulary == "\ufffd ené𝄞"
    assert tokenizer.encode("née x").tolist() == [3, 4, 2, 1, 0]
    assert tokenizer.decode([3, 0]) == "n\ufffd"


def test_ids_are_int64_and_the_tokenizer_compares_and_pickles_by_value():
    tokenizer = CharTokenizer.from_text("abc")
    assert tokenizer.encode("cab").dtype == torch.int64
    assert tokenizer.decode(tokenizer.encode("cab")[1:]) == "ab"
    assert pickle.loads(pickle.dumps(tokenizer)) == tokenizer == CharTokenizer.from_text("cba")


@pytest.mark.parametrize("token", [-1, 4])
def test_an_id_outside_the_vocabulary_is_refused(token):
    with pytest.raises(ValueError, match=r"found ids from .* to .*\. Give ids from 0 to 3\."):
        CharTokenizer.from_text("abc").decode([1, token])
