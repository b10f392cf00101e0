"""LightningModules that wrap any network."""

from lightning_dropout.modules.language_model import LanguageModel
from lightning_dropout.modules.network_module import NetworkModule

__all__ = ["LanguageModel", "NetworkModule"]
