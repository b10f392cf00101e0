"""LightningDataModules on Hugging Face datasets."""

from lightning_dropout.data.text import TextData
from lightning_dropout.data.tokenizers import CharTokenizer

__all__ = ["CharTokenizer", "TextData"]
