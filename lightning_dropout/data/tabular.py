"""Tables as data of a regressor or classifier."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from lightning_dropout.data.columns import Column, class_names
from lightning_dropout.data.sources import find_column, load_frames
from lightning_dropout.data.split_data import SplitData
from lightning_dropout.data.splits import split

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TabularData"]

_SCIKIT_LEARN = ("diabetes", "breast_cancer", "digits", "iris", "wine")


class TabularData(SplitData):
    """Batches (inputs, targets) of a table: float32 ``(batch, num_inputs)`` with float32 or int64 ``(batch,)``.

    Numbers are standardised by the mean and deviation of the training rows, texts become one 0 or 1 per category.
    Targets are standardised too in regression, so a loss of 1 is what predicting the mean would give; ``unscale``
    brings predictions back to the units of the table. Statistics and categories go into checkpoints.

    Where the source has no validation split, ``val_fraction`` of the rows (of every class) are for validation, chosen
    by ``seed``. ``test`` and ``predict`` visit the test split, or the validation rows where there is none. The order
    of training is a pure function of (seed, epoch, data-parallel rank), and a checkpoint from the middle of an epoch
    continues there. The table is kept in memory.

    Args:
        path: A file or glob (parquet, csv, tsv, json, jsonl), a folder, a dataset on the Hugging Face hub,
            ``owner/name``, or one of the tables of scikit-learn: ``diabetes`` (the default), ``breast_cancer``,
            ``digits``, ``iris``, ``wine``.
        target: Column to predict; that of scikit-learn's tables is called ``target``.
        columns: Columns to predict it from; by default all others.
        task: By default ``classification`` where the target holds texts or booleans, and else ``regression``.
        batch_size: Rows in a batch of each data-parallel rank; less if there are fewer.
        val_fraction: Share of the rows that is kept for validation.
        num_workers: Loading processes; none are needed.
        seed: Of split and order.

    Raises:
        ValueError: Where a value is out of range; at setup, if a column is missing or cannot be used.
        FileNotFoundError: At setup, if there is nothing at ``path``.

    Example:
        >>> data = TabularData(batch_size=32)
        >>> data.num_inputs, data.num_outputs
        (10, 1)
        >>> inputs, targets = next(iter(data.train_dataloader()))
        >>> inputs.shape, targets.shape
        (torch.Size([32, 10]), torch.Size([32]))
        >>> TabularData("breast_cancer").classes
        ('benign', 'malignant')
    """

    def __init__(
        self,
        path: str | None = None,
        *,
        target: str = "target",
        columns: list[str] | None = None,
        task: Literal["regression", "classification"] | None = None,
        batch_size: int = 32,
        val_fraction: float = 0.2,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, val_fraction=val_fraction, num_workers=num_workers, seed=seed)
        path = None if path is None else os.fspath(path)
        if task not in (None, "regression", "classification"):
            raise ValueError(f"TabularData(task={task!r}) is unknown. Give regression or classification.")
        self.save_hyperparameters()
        self.path, self.target, self.columns, self.task = path, target, columns, task
        self._inputs: list[Column] | None = None
        self._output: Column | None = None

    @property
    def num_inputs(self) -> int:
        """Numbers per row, known before ``setup``, so that LightningCLI can hand it to the model."""
        self.setup()
        assert self._inputs is not None
        return sum(column.width for column in self._inputs)

    @property
    def num_outputs(self) -> int:
        """Number of classes, or 1 in regression, known before ``setup``."""
        return 1 if self._fitted_output.categories is None else self._fitted_output.width

    @property
    def num_classes(self) -> int:
        """Number of classes, known before ``setup``."""
        return len(self.classes)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the targets.

        Raises:
            ValueError: In regression.
        """
        if self._fitted_output.categories is None:
            raise ValueError(f"TabularData(target={self.target!r}): regression has no classes. Give task=.")
        return self._fitted_output.categories

    def unscale(self, outputs: Tensor) -> Tensor:
        """Predictions of a regressor, of any shape, in the units of the table."""
        return outputs * self._fitted_output.std + self._fitted_output.mean

    def setup(self, stage: str | None = None) -> None:
        """Read the table, once."""
        if self._parts is not None:
            return
        frames = self._frames()
        train = frames["train"]
        names = list(train.columns)
        find_column(names, self.target, owner="TabularData", argument="target")
        inputs = [name for name in names if name != self.target] if self.columns is None else self.columns
        for name in inputs:
            find_column(names, name, owner="TabularData", argument="columns")
        if not inputs or self.target in inputs:
            raise ValueError(f"TabularData(columns={inputs}): give columns besides the target {self.target!r}.")
        frames = {name: frame[frame[self.target].notna()] for name, frame in frames.items()}
        if len(frames["train"]) < 2:
            raise ValueError(f"TabularData(path={self.path!r}): found fewer than 2 rows that have a target.")
        if self._is_classification(frames["train"][self.target]):
            frames = {
                name: frame.assign(**{self.target: class_names(frame[self.target])}) for name, frame in frames.items()
            }
        if "validation" not in frames:
            frames = {**frames, **self._split(frames["train"])}
        self._inputs = self._inputs or [Column.fit(frames["train"][name]) for name in inputs]
        self._output = self._output or Column.fit(frames["train"][self.target])
        self._parts = {name: self._encode(frame) for name, frame in frames.items()}

    def state_dict(self) -> dict[str, Any]:
        """Statistics and categories of the columns."""
        self.setup()
        assert self._inputs is not None
        return {"inputs": [asdict(column) for column in self._inputs], "output": asdict(self._fitted_output)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the statistics and categories of a checkpoint.

        Raises:
            ValueError: If the columns differ.
        """
        inputs, output = [_column(saved) for saved in state_dict["inputs"]], _column(state_dict["output"])
        saved = [column.name for column in [*inputs, output]]
        if self._inputs is not None:
            found = [column.name for column in [*self._inputs, self._fitted_output]]
            if found != saved or self._fitted_output.categories != output.categories:
                raise ValueError(
                    f"TabularData: the checkpoint has the columns {', '.join(saved)}, the table {', '.join(found)}, "
                    "or other classes. Give the table it was trained on."
                )
        self.columns, self._inputs, self._output, self._parts = saved[:-1], inputs, output, None

    @property
    def _fitted_output(self) -> Column:
        self.setup()
        assert self._output is not None
        return self._output

    def _frames(self) -> dict[str, pd.DataFrame]:
        path = self.path or "diabetes"
        if path not in _SCIKIT_LEARN or os.path.exists(path):
            frames = load_frames(path, owner="TabularData")
            if "train" not in frames:
                raise ValueError(f"TabularData(path={path!r}): found the splits {', '.join(frames)}, and no 'train'.")
            return frames
        try:
            from sklearn import datasets
        except ModuleNotFoundError:
            raise ModuleNotFoundError(
                f"TabularData: the table {path!r} is in the package 'scikit-learn', which is not installed. "
                "Give path=, or pip install 'lightning-dropout[recipes]'."
            ) from None
        bunch = getattr(datasets, f"load_{path}")(as_frame=True)
        frame = bunch.frame
        if "target_names" in bunch:
            frame = frame.assign(target=np.array(bunch.target_names, dtype=str)[bunch.target].astype(object))
        return {"train": frame}

    def _is_classification(self, target: pd.Series[Any]) -> bool:
        from pandas.api.types import is_bool_dtype, is_numeric_dtype

        is_number = is_numeric_dtype(target) and not is_bool_dtype(target)
        if self.task == "regression" and not is_number:
            raise ValueError(f"TabularData(target={self.target!r}): texts cannot be regressed. Give another task=.")
        return not is_number if self.task is None else self.task == "classification"

    def _split(self, train: pd.DataFrame) -> dict[str, pd.DataFrame]:
        labels = train[self.target].to_numpy()
        is_class = self._is_classification(train[self.target])
        chosen = split(len(train), self.val_fraction, seed=self.seed, labels=labels if is_class else None)
        return {name: train.iloc[rows] for name, rows in zip(("train", "validation"), chosen, strict=True)}

    def _encode(self, frame: pd.DataFrame) -> TensorDataset:
        assert self._inputs is not None
        assert self._output is not None
        inputs = np.concatenate([column.encode(frame[column.name]) for column in self._inputs], axis=1)
        targets = torch.from_numpy(self._output.encode(frame[self.target]))
        if self._output.categories is None:
            return TensorDataset(torch.from_numpy(inputs), targets[:, 0])
        if not (targets.sum(1) == 1).all():
            raise ValueError(f"TabularData(target={self.target!r}): found classes that training has not.")
        return TensorDataset(torch.from_numpy(inputs), targets.argmax(1))


def _column(saved: Mapping[str, Any]) -> Column:
    categories = saved["categories"]
    return Column(**{**saved, "categories": None if categories is None else tuple(categories)})
