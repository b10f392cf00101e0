import os
import pickle

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_dropout.data import CharTokenizer, TextData
from lightning_dropout.data.token_file import learn_tokenizer

TEXTS = [f"document {number}: {'ab cd ' * (number % 7)}" for number in range(300)]


@pytest.fixture
def path(tmp_path):
    pd.DataFrame({"text": TEXTS}).to_parquet(tmp_path / "texts.parquet")
    return str(tmp_path / "texts.parquet")


def small(path, **kwargs):
    return TextData(path, **{"context_length": 16, "batch_size": 8, **kwargs})


def batches(data):
    loader = data.train_dataloader()
    loader.sampler.set_epoch(1)
    return [*loader, *data.val_dataloader()]


def equal(left, right):
    return len(left) == len(right) and all(
        torch.equal(*parts) for pair in zip(left, right, strict=True) for parts in zip(*pair, strict=True)
    )


@given(st.lists(st.text(max_size=20), max_size=8), st.floats(0, 1))
def test_the_characters_of_the_first_part_are_learnt(pieces, fraction):
    text = "".join(pieces)
    assert learn_tokenizer(pieces, fraction=fraction) == CharTokenizer.from_text(text[: int(len(text) * fraction)])


@pytest.mark.parametrize("suffix", ["txt", "parquet", "csv", "jsonl"])
def test_a_text_is_the_same_from_every_kind_of_file(path, tmp_path, suffix):
    frame = pd.DataFrame({"text": TEXTS})
    other = tmp_path / f"other.{suffix}"
    if suffix == "txt":
        other.write_text("\n\n".join(TEXTS))
    elif suffix == "parquet":
        frame.to_parquet(other, row_group_size=7)
    elif suffix == "csv":
        frame.to_csv(other, index=False)
    else:
        frame.to_json(other, orient="records", lines=True)
    assert equal(batches(small(path)), batches(small(str(other))))


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("tokenizer", ["char", "byte"])
def test_a_file_of_tokens_gives_the_batches_that_memory_gives(path, tmp_path, tokenizer, num_workers):
    settings = {"tokenizer": tokenizer, "num_workers": num_workers}
    mapped = small(path, token_folder=str(tmp_path / "new" / "tokens"), **settings)
    assert equal(batches(small(path, **settings)), batches(mapped))
    assert mapped.tokenizer == small(path, **settings).tokenizer


def test_a_file_of_tokens_is_found_again_until_the_texts_change(path, tmp_path):
    folder = tmp_path / "tokens"
    first = small(path, token_folder=folder)
    first.prepare_data()
    written = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert {file.suffix for file in written} == {".tokens", ".json"}
    again = small(path, token_folder=folder)
    assert (again.vocab_size, equal(batches(again), batches(first))) == (first.vocab_size, True)
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == written

    pd.DataFrame({"text": ["xyz " * 500]}).to_parquet(path)
    changed = small(path, token_folder=folder)
    assert changed.decode(changed.encode("xyz a")) == "xyz \ufffd"
    for settings in ({"val_fraction": 0.3}, {"tokenizer": "byte"}, {"max_chars": 1000}):
        small(path, token_folder=folder, **settings).setup()
    assert len(list(folder.iterdir())) == 2 * 5
    assert os.listdir(tmp_path / "tokens") == [file.name for file in folder.iterdir()]


def test_windows_of_a_file_are_sent_to_other_processes_as_its_path(path, tmp_path):
    dataset = small(path, token_folder=str(tmp_path)).train_dataloader().dataset
    sent = pickle.dumps(dataset)
    assert len(sent) < 1000
    again = pickle.loads(sent)
    assert len(again) == len(dataset)
    assert all(map(torch.equal, again[5], dataset[5]))


def test_a_failure_leaves_no_half_of_a_file(path, tmp_path):
    (tmp_path / "a.txt").write_text("fine " * 100)
    (tmp_path / "b.txt").write_bytes(b"\xe9")
    folder = tmp_path / "tokens"
    with pytest.raises(ValueError, match=r"b\.txt is not UTF-8"):
        small(str(tmp_path / "*.txt"), token_folder=folder, tokenizer="byte").setup()
    assert list(folder.iterdir()) == []


def test_validation_has_files_of_its_own(path, tmp_path):
    (tmp_path / "val.txt").write_text("a" * 400)
    for settings in ({}, {"token_folder": str(tmp_path / "tokens")}):
        data = small(path, val_files=str(tmp_path / "val.txt"), **settings)
        assert {data.decode(inputs[0]) for inputs, _ in data.val_dataloader()} == {"a" * 16}
        train = "".join(data.decode(row) for inputs, _ in data.train_dataloader() for row in inputs)
        assert "document 299" in train or "ment 299" in train or "t 299" in train


def test_the_validation_split_of_a_folder_is_taken(tmp_path):
    pd.DataFrame({"text": TEXTS}).to_parquet(tmp_path / "train.parquet")
    pd.DataFrame({"text": ["c" * 400]}).to_parquet(tmp_path / "validation.parquet")
    data = small(str(tmp_path))
    assert {data.decode(inputs[0]) for inputs, _ in data.val_dataloader()} == {"c" * 16}


def test_a_wrong_column_is_named_with_those_that_are_there(path, tmp_path):
    pd.DataFrame({"text": TEXTS, "id": range(300)}).to_json(tmp_path / "texts.jsonl", orient="records", lines=True)
    for name, found in ((path, "'text'"), (str(tmp_path / "texts.jsonl"), "'text', 'id'")):
        with pytest.raises(ValueError, match=rf"^TextData\(text_column='body'\): no such column\. Found: {found}\.$"):
            small(name, text_column="body").setup()


def test_files_of_several_kinds_are_refused(path, tmp_path):
    (tmp_path / "a.csv").write_text("text\nabc\n")
    with pytest.raises(ValueError, match=r"^TextData: found files that end in '\.csv', '\.parquet'\. Give files"):
        small([path, str(tmp_path / "a.csv")]).setup()
