"""Data by name: files, folders and globs on disk, or a dataset on the Hugging Face hub."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lightning_dropout.data.corpus import without_progress_bars

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["find_column", "load_frames", "load_splits"]

# Rows that are read at a time.
_NUM_ROWS = 100_000

_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_BUILDERS = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".txt": "text"}


def load_splits(path: str, *, owner: str, **options: Any) -> dict[str, Any]:
    """The splits of a dataset by name: those that ``datasets`` finds in a folder or on the hub, or all files as train.

    Args:
        path: A file or glob (parquet, csv, tsv, json, jsonl or txt), a folder, or a hub name such as ``owner/name``.
        owner: Who asks, for messages.
        **options: Of ``datasets.load_dataset``.

    Raises:
        FileNotFoundError: If nothing on disk matches, and it is no hub name.
        ValueError: If it cannot be read.
    """
    import datasets

    path = os.path.expanduser(path)
    files = [path] if os.path.isfile(path) else sorted(filter(os.path.isfile, glob.glob(path, recursive=True)))
    if files:
        builder = _builder(files, owner)
        if builder == "csv":
            # The type of a column is guessed from all rows at once.
            options.update(chunksize=sys.maxsize, sep="\t" if files[0].endswith(".tsv") else ",")
        arguments: dict[str, Any] = {"path": builder, "data_files": [glob.escape(file) for file in files]}
    elif os.path.isdir(path) or _HUB_NAME.fullmatch(path):
        arguments = {"path": path}
    else:
        raise FileNotFoundError(
            f"{owner}: {path!r} is not there. Give a file, a glob, a folder, or the name of a dataset on the hub, "
            "'owner/name'."
        )
    with _readable(owner, path), without_progress_bars():
        return dict(datasets.load_dataset(**arguments, **options))


def load_frames(path: str, *, owner: str) -> dict[str, pd.DataFrame]:
    """The splits of ``load_splits`` in memory, with nothing left in a cache.

    Raises:
        FileNotFoundError: If there is nothing of that name.
        ValueError: If it cannot be read.
    """
    import pandas as pd

    with TemporaryDirectory() as cache:
        splits = load_splits(path, owner=owner, streaming=True, cache_dir=cache)
        with _readable(owner, path):
            return {
                split: pd.concat(list(rows.with_format("pandas").iter(_NUM_ROWS)), ignore_index=True)
                for split, rows in splits.items()
            }


def find_column(columns: Sequence[str], name: str, *, owner: str, argument: str) -> str:
    """The column ``name``, or a message that lists what there is.

    Raises:
        ValueError: If there is no such column.
    """
    if name not in columns:
        raise ValueError(f"{owner}({argument}={name!r}): no such column. Found: {', '.join(map(repr, columns))}.")
    return name


@contextmanager
def _readable(owner: str, path: str) -> Iterator[None]:
    from datasets.exceptions import DatasetGenerationError

    try:
        yield
    except (OSError, ValueError, DatasetGenerationError) as error:
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        raise ValueError(f"{owner}: {path!r} cannot be read, neither from disk nor from the hub ({reason}).") from error


def _builder(files: Sequence[str], owner: str) -> str:
    suffixes = {Path(file).suffix.lower() for file in files}
    builders = {_BUILDERS.get(suffix) for suffix in suffixes}
    builder = builders.pop()
    if builders or builder is None:
        raise ValueError(
            f"{owner}: found files that end in {', '.join(map(repr, sorted(suffixes)))}. "
            f"Give files of one kind, of {', '.join(_BUILDERS)}."
        )
    return builder
