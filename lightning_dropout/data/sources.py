"""Data by name: files, folders and globs on disk, or a dataset on the Hugging Face hub."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "find_column",
    "folder_files",
    "is_on_hub",
    "load_frames",
    "load_splits",
    "match_files",
    "read_texts",
    "readable",
    "stream_files",
]

_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_BUILDERS = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json"}
# Rows that are read at a time.
_NUM_ROWS = 1000


def load_splits(path: str, *, owner: str, streaming: bool = False) -> dict[str, Any]:
    """The splits of a dataset by name: those that ``datasets`` finds in a folder or on the hub, or all files as train.

    Args:
        path: A file or glob (parquet, csv, tsv, json or jsonl), a folder, or a hub name such as ``owner/name``.
        owner: Who asks, for messages.
        streaming: Read rows when they are asked for, and leave nothing in the cache of ``datasets``.

    Raises:
        FileNotFoundError: If nothing on disk matches, and it is no hub name.
        ValueError: If it cannot be read.
    """
    if files := match_files(path):
        return {"train": _load(files, owner, streaming=streaming, **_builder(files, owner))}
    if not (is_on_hub(path) or os.path.isdir(os.path.expanduser(path))):
        raise FileNotFoundError(
            f"{owner}: {path!r} is not there. Give a file, a glob, a folder, or the name of a dataset on the hub, "
            "'owner/name'."
        )
    return dict(_load([path], owner, streaming=streaming, path=os.path.expanduser(path)))


def stream_files(files: Sequence[str], column: str, *, owner: str) -> Any:
    """The rows of files of one kind, as a ``datasets.IterableDataset``; a file that is no table is one text.

    Raises:
        ValueError: If the files are of several kinds, cannot be read, or have no such column.
    """
    options = _builder(files, owner, other={"path": "text", "sample_by": "document"})
    if options["path"] == "parquet":
        return _stream_parquet(files, column, owner)
    rows = _load(files, owner, streaming=True, **options)
    return rows.rename_column("text", column) if options["path"] == "text" and column != "text" else rows


def read_texts(rows: Iterable[Mapping[str, Any]], column: str, *, owner: str) -> Iterator[str]:
    """One column of rows; missing texts are empty.

    Raises:
        ValueError: If there is no such column, or the rows cannot be read.
    """
    iterator = iter(rows)
    while True:
        with readable(owner=owner):
            row = next(iterator, None)
        if row is None:
            return
        text = row[find_column(list(row), column, owner=owner, argument="text_column")]
        yield "" if text is None else str(text)


def load_frames(path: str, *, owner: str) -> dict[str, pd.DataFrame]:
    """The splits of ``load_splits`` in memory, with nothing left in a cache.

    Raises:
        FileNotFoundError: If there is nothing of that name.
        ValueError: If it cannot be read.
    """
    import pandas as pd

    splits = load_splits(path, owner=owner, streaming=True)
    with readable(path, owner=owner):
        return {
            split: pd.concat(list(rows.with_format("pandas").iter(_NUM_ROWS)), ignore_index=True)
            for split, rows in splits.items()
        }


def match_files(pattern: str) -> list[str]:
    """The file of that name, or else those that match the glob, in order."""
    pattern = os.path.expanduser(pattern)
    if os.path.isfile(pattern):
        return [pattern]
    return sorted(filter(os.path.isfile, glob.glob(pattern, recursive=True)))


def is_on_hub(path: str) -> bool:
    """Whether it may be the name of a dataset on the hub, because it is none on disk."""
    return _HUB_NAME.fullmatch(path) is not None and not os.path.exists(path.partition("/")[0])


def folder_files(folder: str, *, owner: str) -> dict[str, list[str]]:
    """The files of a folder by split, as ``datasets`` finds them by their names.

    Raises:
        ValueError: If it finds none.
    """
    from datasets import load_dataset_builder

    with readable(folder, owner=owner), TemporaryDirectory() as cache:
        files = load_dataset_builder(os.path.expanduser(folder), cache_dir=cache).config.data_files
        return {str(split): list(map(str, files[split])) for split in files}


def find_column(columns: Sequence[str], name: str, *, owner: str, argument: str) -> str:
    """The column ``name``, or a message that lists what there is.

    Raises:
        ValueError: If there is no such column.
    """
    if name not in columns:
        raise ValueError(f"{owner}({argument}={name!r}): no such column. Found: {', '.join(map(repr, columns))}.")
    return name


@contextmanager
def readable(path: str | None = None, *, owner: str) -> Iterator[None]:
    """Say in one line what ``datasets`` could not read.

    Raises:
        ValueError: Instead of the many kinds of errors that there are.
    """
    from datasets.exceptions import DatasetGenerationError

    try:
        yield
    except UnicodeDecodeError:  # tells the place, which its reader knows
        raise
    except (OSError, ValueError, DatasetGenerationError) as error:
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        what = "data" if path is None else repr(path)
        where = "" if path is None or os.path.exists(path) else ", on disk or on the hub"
        raise ValueError(f"{owner}: {what} cannot be read{where} ({reason}).") from error


def _load(names: Sequence[str], owner: str, *, streaming: bool, **options: Any) -> Any:
    """What ``datasets`` makes of it, without progress bars."""
    from datasets import load_dataset

    with readable(names[0], owner=owner), _without_progress_bars(), TemporaryDirectory() as cache:
        # Streaming still locks a file in the cache, and a home may be read-only.
        return load_dataset(**options, streaming=streaming, cache_dir=cache if streaming else None)


def _builder(files: Sequence[str], owner: str, other: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Arguments of ``load_dataset``; ``other`` are those for files of another kind than tables."""
    suffixes = {Path(file).suffix.lower() for file in files}
    names = {_BUILDERS.get(suffix) for suffix in suffixes}
    name = names.pop()
    if names or (name is None and other is None):
        raise ValueError(
            f"{owner}: found files that end in {', '.join(map(repr, sorted(suffixes)))}. "
            f"Give files of one kind, of {', '.join(_BUILDERS)}."
        )
    options: dict[str, Any] = dict(other or {}) if name is None else {"path": name}
    if ".tsv" in suffixes:
        options["sep"] = "\t"
    return {**options, "split": "train", "data_files": [glob.escape(file) for file in files]}


def _stream_parquet(files: Sequence[str], column: str, owner: str) -> Any:
    """Rows in small pieces; ``load_dataset`` decodes row groups, and many writers put a whole file into one."""
    from datasets.io.generator import GeneratorDatasetInputStream
    from pyarrow.parquet import read_schema

    with readable(files[0], owner=owner):
        columns = read_schema(files[0]).names
    find_column(columns, column, owner=owner, argument="text_column")
    with TemporaryDirectory() as cache:
        stream = GeneratorDatasetInputStream(
            _parquet_rows, gen_kwargs={"files": list(files), "column": column}, cache_dir=cache, streaming=True
        )
        return stream.read()


def _parquet_rows(files: Sequence[str], column: str) -> Iterator[dict[str, Any]]:
    from pyarrow.parquet import ParquetFile

    for path in files:
        with ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            for batch in file.iter_batches(100, columns=[column], use_threads=False):
                yield from batch.to_pylist()


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
