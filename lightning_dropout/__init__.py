"""Schedule, verify and watch dropout in any PyTorch Lightning model."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_dropout import callbacks as callbacks
    from lightning_dropout import layers as layers
    from lightning_dropout import schedules as schedules
    from lightning_dropout.data import ImageData as ImageData
    from lightning_dropout.data import TabularData as TabularData
    from lightning_dropout.data import TextClassificationData as TextClassificationData
    from lightning_dropout.data import TextData as TextData
    from lightning_dropout.models import CNN as CNN
    from lightning_dropout.models import MLP as MLP
    from lightning_dropout.models import CNNDropout as CNNDropout
    from lightning_dropout.models import EncoderConfig as EncoderConfig
    from lightning_dropout.models import MLPDropout as MLPDropout
    from lightning_dropout.models import PatchConfig as PatchConfig
    from lightning_dropout.models import RotaryConfig as RotaryConfig
    from lightning_dropout.models import RotaryScaling as RotaryScaling
    from lightning_dropout.models import TextGenerator as TextGenerator
    from lightning_dropout.models import Transformer as Transformer
    from lightning_dropout.models import TransformerDropout as TransformerDropout
    from lightning_dropout.modules import Classifier as Classifier
    from lightning_dropout.modules import LanguageModel as LanguageModel
    from lightning_dropout.modules import Regressor as Regressor
    from lightning_dropout.sites import Sites as Sites
    from lightning_dropout.sites import SiteWriter as SiteWriter
    from lightning_dropout.sites import audit as audit
    from lightning_dropout.sites import find_sites as find_sites
    from lightning_dropout.sites import register_site as register_site
    from lightning_dropout.sites import trace_sites as trace_sites
    from lightning_dropout.sites import watch_dropout as watch_dropout
    from lightning_dropout.uncertainty import mc_predict as mc_predict

__version__ = "0.1.0"

# Resolved on first use, so that the command line can answer before torch is imported.
_EXPORTS = {
    "audit": "lightning_dropout.sites",
    "Classifier": "lightning_dropout.modules",
    "CNN": "lightning_dropout.models",
    "CNNDropout": "lightning_dropout.models",
    "EncoderConfig": "lightning_dropout.models",
    "find_sites": "lightning_dropout.sites",
    "ImageData": "lightning_dropout.data",
    "LanguageModel": "lightning_dropout.modules",
    "mc_predict": "lightning_dropout.uncertainty",
    "MLP": "lightning_dropout.models",
    "MLPDropout": "lightning_dropout.models",
    "PatchConfig": "lightning_dropout.models",
    "register_site": "lightning_dropout.sites",
    "Regressor": "lightning_dropout.modules",
    "RotaryConfig": "lightning_dropout.models",
    "RotaryScaling": "lightning_dropout.models",
    "Sites": "lightning_dropout.sites",
    "SiteWriter": "lightning_dropout.sites",
    "TabularData": "lightning_dropout.data",
    "TextClassificationData": "lightning_dropout.data",
    "TextData": "lightning_dropout.data",
    "TextGenerator": "lightning_dropout.models",
    "trace_sites": "lightning_dropout.sites",
    "Transformer": "lightning_dropout.models",
    "TransformerDropout": "lightning_dropout.models",
    "watch_dropout": "lightning_dropout.sites",
}
_SUBMODULES = frozenset({"callbacks", "layers", "schedules"})
__all__ = ["__version__", *sorted(_EXPORTS), *sorted(_SUBMODULES)]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return import_module(f"lightning_dropout.{name}")
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'lightning_dropout' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
