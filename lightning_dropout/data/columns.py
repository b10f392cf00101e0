"""Columns of a table as numbers for a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Column", "class_names"]

# More different texts than this are names or sentences rather than categories.
_MAX_CATEGORIES = 100


@dataclass(frozen=True)
class Column:
    """A column of numbers, to be standardised, or of texts, to become one 0 or 1 per category.

    A missing number becomes the mean; a missing text, or one that was not there in training, is all zeros.

    Args:
        name: Of the column.
        mean: Of the numbers.
        std: Of the numbers.
        categories: The texts; ``None`` for numbers.

    Example:
        >>> import pandas as pd
        >>> Column.fit(pd.Series([1.0, 3.0, 5.0], name="age")).encode(pd.Series([3.0, None])).tolist()
        [[0.0], [0.0]]
        >>> Column.fit(pd.Series(["b", "a", "b"], name="sort")).encode(pd.Series(["b", "c"])).tolist()
        [[0.0, 1.0], [0.0, 0.0]]
    """

    name: str
    mean: float = 0.0
    std: float = 1.0
    categories: tuple[str, ...] | None = None

    @classmethod
    def fit(cls, values: pd.Series[Any]) -> Column:
        """Take statistics or categories from training data.

        Raises:
            ValueError: If the column holds neither numbers nor categories.
        """
        from pandas.api.types import is_numeric_dtype

        name = str(values.name)
        if is_numeric_dtype(values):
            numbers = values.astype("float64")
            mean, std = float(numbers.mean()), float(numbers.std(ddof=0))
            # An empty column has no mean, and a constant one no scale.
            return cls(name, mean if np.isfinite(mean) else 0.0, std if std > 0.0 and np.isfinite(std) else 1.0)
        known = values.dropna()
        if not known.map(lambda value: isinstance(value, str | bool)).all():
            raise ValueError(
                f"TabularData: column {name!r} holds {type(known.iloc[0]).__name__}, neither numbers nor texts. "
                "Leave it out of columns=."
            )
        categories = sorted(set(known.astype(str)))
        if len(categories) > _MAX_CATEGORIES:
            raise ValueError(
                f"TabularData: column {name!r} has {len(categories)} different texts, more than {_MAX_CATEGORIES} "
                "categories. Leave it out of columns=."
            )
        return cls(name, categories=tuple(categories))

    @property
    def width(self) -> int:
        """Numbers that it becomes."""
        return 1 if self.categories is None else len(self.categories)

    def encode(self, values: pd.Series[Any]) -> NDArray[np.float32]:
        """Numbers of shape ``(num_rows, width)``.

        Raises:
            ValueError: If there are texts where training had numbers.
        """
        if self.categories is not None:
            texts = values.astype(str).to_numpy()
            return np.asarray(texts[:, None] == np.array(self.categories, dtype=object), np.float32)
        try:
            numbers = values.astype("float64").to_numpy()
        except (TypeError, ValueError) as error:
            raise ValueError(f"TabularData: column {self.name!r} held numbers in training, now {error}.") from None
        scaled: NDArray[np.float32] = ((np.nan_to_num(numbers, nan=self.mean) - self.mean) / self.std).astype(
            np.float32
        )
        return scaled[:, None]


def class_names(labels: pd.Series[Any]) -> pd.Series[Any]:
    """Classes as texts; whole numbers are padded with zeros, so that the texts sort as the numbers do."""
    from pandas.api.types import is_integer_dtype

    if is_integer_dtype(labels):
        width = len(str(labels.max()))
        return labels.map(lambda label: str(label).zfill(width)).astype(object)
    return labels.astype(str).astype(object)
