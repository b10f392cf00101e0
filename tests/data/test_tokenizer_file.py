import json

import pytest

from lightning_dropout.data.tokenizer_file import tokenizer_json
from lightning_dropout.data.tokenizers import ByteTokenizer, CharTokenizer, FileTokenizer

TEXT = "née\n\n\tx  y — 1999 \x00\x7f “s” €5 😀\r\n"


@pytest.mark.parametrize("tokenizer", [CharTokenizer.from_text(TEXT), ByteTokenizer()])
def test_the_file_gives_the_same_ids_and_the_same_text(tokenizer):
    pytest.importorskip("tokenizers")
    content = tokenizer_json(tokenizer)
    file = FileTokenizer(json.dumps(content))
    assert file.vocab_size == tokenizer.vocab_size
    assert file.encode(TEXT).tolist() == tokenizer.encode(TEXT).tolist()
    assert file.decode(file.encode(TEXT)) == TEXT
    assert tokenizer_json(file) == content


def test_a_character_that_the_vocabulary_lacks_is_token_0():
    pytest.importorskip("tokenizers")
    file = FileTokenizer(json.dumps(tokenizer_json(CharTokenizer.from_text("ab"))))
    assert file.encode("abc").tolist() == [1, 2, 0]
