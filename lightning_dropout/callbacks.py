"""The callbacks, under their documented name."""

from lightning_dropout_callbacks import *  # noqa: F403
from lightning_dropout_callbacks import __all__ as __all__
