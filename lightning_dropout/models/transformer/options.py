"""Options of a Transformer that belong together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lightning_dropout.models.checks import check_choices, check_counts

__all__ = ["EncoderConfig", "PatchConfig", "RotaryConfig", "RotaryScaling"]


@dataclass(frozen=True)
class EncoderConfig:
    """Makes a Transformer see both sides of every position and classify the whole sequence.

    Args:
        num_classes: Width of the output.
        pooling: What is classified: a learned ``"class"`` token in front (Devlin et al. 2019), or the ``"mean"``.
        padding_id: Token that fills up shorter texts; its positions are neither attended to nor pooled.
    """

    num_classes: int
    pooling: Literal["class", "mean"] = "class"
    padding_id: int | None = None

    def __post_init__(self) -> None:
        check_choices(self)
        check_counts(self, "num_classes")


@dataclass(frozen=True)
class PatchConfig:
    """Makes a Transformer read square images, cut into square patches (Dosovitskiy et al. 2021).

    Args:
        image_size: Side of the images, in pixels.
        patch_size: Side of a patch, in pixels.
        in_channels: Channels of the images.

    Raises:
        ValueError: If patches do not tile the image.
    """

    image_size: int
    patch_size: int
    in_channels: int = 3

    def __post_init__(self) -> None:
        check_counts(self, "image_size", "patch_size", "in_channels")
        if self.image_size % self.patch_size:
            raise ValueError(
                f"PatchConfig(image_size={self.image_size}, patch_size={self.patch_size}) makes no "
                "sense. Patches must tile the image."
            )

    @property
    def num_patches(self) -> int:
        """Length of the sequence that an image becomes."""
        side = self.image_size // self.patch_size
        return side * side


@dataclass(frozen=True)
class RotaryScaling:
    """How Llama 3.1 stretches rotary positions over a context longer than the one that it was trained on.

    Rotations that turn more than ``high_freq_factor`` times in the original context stay as they are, those that turn
    less than ``low_freq_factor`` times are slowed down by ``factor``, and those between are interpolated.
    """

    factor: float
    original_context_length: int
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0


@dataclass(frozen=True)
class RotaryConfig:
    """Options of rotary positions (Su et al. 2021).

    Args:
        base: The slowest rotation takes nearly this many positions times 2 pi.
        scaling: For a context longer than in training.
    """

    base: float = 10000.0
    scaling: RotaryScaling | None = None
