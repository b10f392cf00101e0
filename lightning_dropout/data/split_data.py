"""What data modules with a training, a validation and a test part have in common."""

from __future__ import annotations

from typing import Any, ClassVar

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from lightning_dropout.data.loader import ResumableLoader
from lightning_dropout.data.loading import check_counts, check_fraction, evaluation_loader, ranks, training_loader

__all__ = ["SplitData"]


class SplitData(LightningDataModule):
    """Loaders of data whose parts are map-style datasets, which ``setup`` keeps in ``_parts``.

    The parts are called as Hugging Face datasets calls them: train, validation, test. Where there is no test part,
    that is validation again.
    """

    sampler: ClassVar[type[DistributedSampler[Any]]] = DistributedSampler
    _parts: dict[str, Any] | None = None

    def __init__(self, *, batch_size: int, val_fraction: float, num_workers: int, seed: int) -> None:
        super().__init__()
        check_counts(type(self).__name__, batch_size=batch_size)
        check_counts(type(self).__name__, at_least=0, num_workers=num_workers, seed=seed)
        check_fraction(type(self).__name__, val_fraction=val_fraction)
        self.batch_size, self.val_fraction = batch_size, val_fraction
        self.num_workers, self.seed = num_workers, seed

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled training samples, in full batches."""
        train = self._part("train")
        sampler = self.sampler(train, seed=self.seed, drop_last=True, **ranks(self.trainer))
        return training_loader(train, sampler, self.trainer, batch_size=self.batch_size, num_workers=self.num_workers)

    def val_dataloader(self) -> DataLoader[Any]:
        """All validation samples, in order."""
        return self._evaluate("validation")

    def test_dataloader(self) -> DataLoader[Any]:
        """All test samples, in order."""
        return self._evaluate("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """The same as for test."""
        return self.test_dataloader()

    def _part(self, name: str) -> Dataset[Any]:
        self.setup(name)
        assert self._parts is not None
        part: Dataset[Any] = self._parts.get(name, self._parts["validation"])
        return part

    def _evaluate(self, name: str) -> DataLoader[Any]:
        return evaluation_loader(
            self._part(name), self.trainer, batch_size=self.batch_size, num_workers=self.num_workers
        )
