"""LightningDataModules on Hugging Face datasets."""

from lightning_dropout.data.images import ImageData
from lightning_dropout.data.passages import TextClassificationData
from lightning_dropout.data.tabular import TabularData
from lightning_dropout.data.text import TextData
from lightning_dropout.data.tokenizers import ByteTokenizer, CharTokenizer, FileTokenizer

__all__ = [
    "ByteTokenizer",
    "CharTokenizer",
    "FileTokenizer",
    "ImageData",
    "TabularData",
    "TextClassificationData",
    "TextData",
]
