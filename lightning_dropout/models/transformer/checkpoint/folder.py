"""The files of a checkpoint folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lightning_dropout.models.transformer.checkpoint.optional import optional_module

__all__ = ["find_folder", "read_json", "read_tensors", "write_json", "write_tensors"]

_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_FILES = ["*.json", "*.safetensors", "*.jinja"]


def find_folder(name: str | os.PathLike[str]) -> Path:
    """The folder ``name``, or where there is none, what the Hugging Face hub has under that id.

    Raises:
        ValueError: If there is neither.
    """
    folder = Path(name)
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(name), allow_patterns=_FILES))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(
            f"from_pretrained({str(name)!r}) found no such folder, and no such id on the hub ({reason}). Give a folder "
            "with config.json and *.safetensors."
        ) from None


def read_json(folder: Path, name: str, *, default: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The contents of a JSON file of the folder; ``default`` where it is not there.

    Raises:
        ValueError: If it is needed and not there, or no JSON.
    """
    path = folder / name
    if not path.is_file() and default is not None:
        return dict(default)
    try:
        contents: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{folder} has no {name}. Give the folder of a checkpoint.") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON ({error}). Fetch the checkpoint again.") from None
    return contents


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of the folder, from one file or from shards.

    Raises:
        ValueError: If there are none, or a shard is missing or damaged.
    """
    if (folder / _WEIGHTS).is_file():
        shards = [_WEIGHTS]
    elif (folder / _INDEX).is_file():
        shards = sorted(set(read_json(folder, _INDEX)["weight_map"].values()))
    else:
        raise ValueError(f"{folder} has neither {_WEIGHTS} nor {_INDEX}. Give a folder with safetensors.")
    safetensors = optional_module("safetensors.torch")
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        try:
            tensors |= safetensors.load_file(folder / shard)
        except FileNotFoundError:
            raise ValueError(f"{folder} lacks the shard {shard} that its index names. Fetch it again.") from None
        except optional_module("safetensors").SafetensorError as error:
            raise ValueError(f"{folder / shard} is damaged ({error}). Fetch it again.") from None
    return tensors


def write_tensors(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write all tensors into one file, which appears when it is whole."""
    part = folder / f"{_WEIGHTS}.part"
    contents = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    optional_module("safetensors.torch").save_file(contents, part, metadata={"format": "pt"})
    part.replace(folder / _WEIGHTS)


def write_json(folder: Path, name: str, contents: Mapping[str, Any]) -> None:
    """Write a JSON file, which appears when it is whole."""
    part = folder / f"{name}.part"
    part.write_text(json.dumps(contents, indent=2) + "\n", encoding="utf-8")
    part.replace(folder / name)
