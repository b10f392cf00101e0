"""LightningModules that wrap any network."""

from lightning_dropout.modules.classifier import Classifier
from lightning_dropout.modules.language_model import LanguageModel
from lightning_dropout.modules.network_module import NetworkModule
from lightning_dropout.modules.regressor import Regressor

__all__ = ["Classifier", "LanguageModel", "NetworkModule", "Regressor"]
