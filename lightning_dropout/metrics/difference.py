"""The same metric under two conditions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor
from torchmetrics import Metric
from torchmetrics.wrappers.abstract import WrapperMetric

__all__ = ["DifferenceMetric"]


class DifferenceMetric(WrapperMetric):
    """Base of the metrics here: two copies of a metric, each with its own state, and a number from both.

    Each copy is reduced over ranks as the wrapped metric says, so its samples weigh the same whatever rank they are on.

    Raises:
        ValueError: If what is wrapped is no torchmetrics metric.
    """

    full_state_update = False
    conditions: ClassVar[tuple[str, str]] = ("train", "val")

    def __init__(self, metric: Metric, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(metric, Metric):
            raise ValueError(
                f"{type(self).__name__} got {type(metric).__name__}. Wrap one torchmetrics.Metric; of a collection, "
                "wrap each."
            )
        self.first, self.second = metric.clone(), metric.clone()

    def reset(self) -> None:
        """Forget everything seen."""
        super().reset()
        self.first.reset()
        self.second.reset()

    def plot(self, val: Tensor | Sequence[Tensor] | None = None, ax: Any = None) -> Any:
        """Plot one value or several over steps with matplotlib; ``compute`` gives the value if there is none."""
        return self._plot(val, ax)

    def _part(self, keyword: str, condition: str) -> Metric:
        if condition not in self.conditions:
            first, second = self.conditions
            raise ValueError(f"{type(self).__name__} got {keyword}={condition!r}. Give {first!r} or {second!r}.")
        return self.first if condition == self.conditions[0] else self.second
