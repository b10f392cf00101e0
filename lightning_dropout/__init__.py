"""Schedule, verify and watch dropout in any PyTorch Lightning model."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_dropout import schedules as schedules
    from lightning_dropout.data import TextData as TextData
    from lightning_dropout.models import Transformer as Transformer
    from lightning_dropout.models import TransformerDropout as TransformerDropout
    from lightning_dropout.modules import LanguageModel as LanguageModel
    from lightning_dropout.sites import Sites as Sites
    from lightning_dropout.sites import find_sites as find_sites
    from lightning_dropout.sites import register_site as register_site

__version__ = "0.1.0"

# Resolved on first use, so that the command line can answer before torch is imported.
_EXPORTS = {
    "LanguageModel": "lightning_dropout.modules",
    "Sites": "lightning_dropout.sites",
    "TextData": "lightning_dropout.data",
    "Transformer": "lightning_dropout.models",
    "TransformerDropout": "lightning_dropout.models",
    "find_sites": "lightning_dropout.sites",
    "register_site": "lightning_dropout.sites",
}
_SUBMODULES = frozenset({"schedules"})
__all__ = ["__version__", *sorted(_EXPORTS), *sorted(_SUBMODULES)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return import_module(f"lightning_dropout.{name}")
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'lightning_dropout' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
