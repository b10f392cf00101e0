"""Checkpoint folders of Llama and GPT-2, read and written."""

from lightning_dropout.models.transformer.checkpoint.mixin import CheckpointMixin

__all__ = ["CheckpointMixin"]
