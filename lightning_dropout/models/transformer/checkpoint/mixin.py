"""Checkpoint folders in the layout of Hugging Face."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from lightning_dropout.models.transformer.checkpoint import gpt2, llama
from lightning_dropout.models.transformer.checkpoint.folder import (
    find_folder,
    read_json,
    read_tensors,
    write_json,
    write_tensors,
)
from lightning_dropout.models.transformer.checkpoint.link import Link
from lightning_dropout.models.transformer.config import TransformerConfig
from lightning_dropout.models.transformer.dropout import TransformerDropout

__all__ = ["CheckpointMixin"]


class Format(Protocol):
    """What the modules ``llama`` and ``gpt2`` offer."""

    def options(self, settings: Mapping[str, Any]) -> dict[str, Any]: ...
    def settings(self, config: TransformerConfig) -> dict[str, Any]: ...
    def links(self, config: TransformerConfig) -> Iterator[Link]: ...
    def weight_name(self, name: str) -> str | None: ...
    def fits(self, config: TransformerConfig) -> bool: ...


_FORMATS: Mapping[str, Format] = {"gpt2": gpt2, "llama": llama}
_RATES = "transformer_dropout"

Self = TypeVar("Self", bound="CheckpointMixin")


class CheckpointMixin(nn.Module):
    """Gives a Transformer ``from_pretrained`` and ``save_pretrained``."""

    config: TransformerConfig

    @classmethod
    def from_pretrained(
        cls: type[Self],
        folder: str | os.PathLike[str],
        *,
        dropout: TransformerDropout | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """Read Llama or GPT-2 from a folder with ``config.json`` and ``*.safetensors``, in one file or in shards.

        Like every new module the network is in training mode: call ``.eval()`` before you use it as it is.

        Args:
            folder: The folder, or an id on the Hugging Face hub.
            dropout: Rates in place of those in ``config.json``.
            dtype: What to cast the weights to; by default they stay as they are stored.

        Raises:
            ValueError: If the folder is not there or not complete, or holds another kind of network.
        """
        path = find_folder(folder)
        contents = read_json(path, "config.json")
        kind = str(contents.get("model_type"))
        if kind not in _FORMATS:
            raise ValueError(
                f"{path} holds a model of type {kind!r}, but Transformer reads {' and '.join(_FORMATS)}. Give another "
                "folder."
            )
        form = _FORMATS[kind]
        options = form.options(contents)
        if dropout is not None or _RATES in contents:
            options["dropout"] = dropout or TransformerDropout(**contents[_RATES])
        with torch.device("meta"):
            network = cls(**options)
        theirs = {form.weight_name(name): tensor.to(dtype) for name, tensor in read_tensors(path).items()}
        network.load_state_dict(_join(network, form, theirs, path), assign=True)
        for module in network.modules():
            if any(buffer.is_meta for buffer in module.buffers(recurse=False)):
                module.to_empty(device="cpu")
        return network

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write ``config.json`` and ``model.safetensors``, which transformers and ``from_pretrained`` read.

        Transformers knows fewer dropout sites; the rates of all are kept beside the rest, for ``from_pretrained``.

        Raises:
            ValueError: If the network has neither the form of Llama nor that of GPT-2.
        """
        config = self.config
        forms = [form for form in _FORMATS.values() if form.fits(config)]
        if not forms or config.encoder is not None or config.context_dim is not None:
            raise ValueError(
                f"save_pretrained() writes {' and '.join(_FORMATS)}, but this Transformer has another form ({config}). "
                "Use torch.save(network.state_dict(), path)."
            )
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        ours = self.state_dict()
        theirs: dict[str, Tensor] = {}
        for link in forms[0].links(config):
            theirs |= dict(zip(link.theirs, link.split(ours[link.ours]), strict=True))
        write_tensors(path, theirs)
        dtype = str(next(self.parameters()).dtype).removeprefix("torch.")
        write_json(path, "config.json", {**forms[0].settings(config), "dtype": dtype, _RATES: asdict(config.dropout)})


def _join(network: CheckpointMixin, form: Format, theirs: dict[str | None, Tensor], path: Path) -> dict[str, Tensor]:
    theirs.pop(None, None)
    ours = {}
    for link in form.links(network.config):
        missing = [name for name in link.theirs if name not in theirs]
        if missing:
            raise ValueError(f"{path} lacks the tensor {missing[0]!r} that its config.json asks for. Fetch it again.")
        ours[link.ours] = link.join([theirs.pop(name) for name in link.theirs])
        expected = network.get_parameter(link.ours).shape
        if ours[link.ours].shape != expected:
            raise ValueError(
                f"{path} has {' and '.join(link.theirs)} of shape {tuple(ours[link.ours].shape)} together, but its "
                f"config.json asks for {tuple(expected)}. Fetch it again."
            )
    if network.config.tie_weights:
        theirs.pop("lm_head.weight", None)
    if theirs:
        raise ValueError(
            f"{path} has the tensor {next(iter(theirs))!r}, for which Transformer has no place. Give another folder."
        )
    return ours
