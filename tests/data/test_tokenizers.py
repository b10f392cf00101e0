import pickle

import pytest
import tokenizers
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_dropout.data import ByteTokenizer, CharTokenizer, TextData
from lightning_dropout.data.tokenizer_choice import find_tokenizer, tokenizer_from_state


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


@given(st.text())
def test_bytes_take_any_text(text):
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode(text)
    assert ids.tolist() == list(text.encode())
    assert tokenizer.decode(ids) == text


def test_part_of_a_character_is_decoded_as_a_replacement():
    assert ByteTokenizer().decode(ByteTokenizer().encode("né")[:-1]) == "n\ufffd"


@pytest.fixture
def tokenizer_file(tmp_path):
    """Words as tokens, with the padding, the truncation and the special token in front that models have them with."""
    vocabulary = {"<s>": 0, "<unk>": 1, "the": 2, "cat": 3, "sat": 4}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.enable_padding(length=8)
    tokenizer.enable_truncation(2)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def test_a_tokenizer_file_gives_the_tokens_of_the_text_and_no_others(tokenizer_file):
    tokenizer = find_tokenizer(str(tokenizer_file), owner="TextData")
    assert tokenizer.vocab_size == 5
    assert tokenizer.encode("the cat sat dog").tolist() == [2, 3, 4, 1]
    assert tokenizer.encode("the").dtype == torch.int64
    assert tokenizer.decode(torch.tensor([2, 3])) == "the cat"
    assert find_tokenizer(str(tokenizer_file.parent), owner="TextData") == tokenizer
    assert pickle.loads(pickle.dumps(tokenizer)) == tokenizer
    with pytest.raises(ValueError, match=r"^FileTokenizer\.decode: found ids from 5 to 5\. Give ids from 0 to 4\.$"):
        tokenizer.decode([5])


def test_a_text_is_read_with_a_tokenizer_file_and_the_checkpoint_has_it(tokenizer_file, tmp_path):
    (tmp_path / "text.txt").write_text("the cat sat " * 100)
    data = TextData(str(tmp_path / "text.txt"), tokenizer=str(tokenizer_file), context_length=4, batch_size=2)
    inputs, targets = next(iter(data.train_dataloader()))
    assert set(inputs.flatten().tolist()) == {2, 3, 4}
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    tokenizer_file.unlink()
    again = TextData(str(tmp_path / "text.txt"), tokenizer=str(tokenizer_file))
    again.load_state_dict(data.state_dict())
    assert again.decode(again.encode("cat sat")) == "cat sat"
    other = TextData(str(tmp_path / "text.txt"), tokenizer="byte", context_length=4)
    other.setup()
    message = r"^TextData: the checkpoint has a FileTokenizer of 5 tokens, the files a ByteTokenizer of 256 tokens, or "
    with pytest.raises(ValueError, match=message):
        other.load_state_dict(data.state_dict())


@pytest.mark.parametrize("tokenizer", [CharTokenizer.from_text("abc"), ByteTokenizer()])
def test_a_tokenizer_comes_back_from_its_state(tokenizer):
    assert tokenizer_from_state(tokenizer.state_dict()) == tokenizer


def test_what_is_no_tokenizer_is_refused_in_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"^TextData\(tokenizer='bite'\): not found\. Give char, byte, or the"):
        find_tokenizer("bite", owner="TextData")
    for content in (b"{}", b"\xff"):
        (tmp_path / "tokenizer.json").write_bytes(content)
        with pytest.raises(ValueError, match=r"tokenizer\.json is no tokenizer\.json \(.*\)\.$"):
            find_tokenizer(str(tmp_path), owner="TextData")
