"""Random states, to be compared: were numbers drawn, and do ranks draw the same?"""

from __future__ import annotations

import random
from typing import Any, TypeAlias

import numpy as np
import torch

__all__ = ["State", "any_state", "device_seed", "torch_state"]

State: TypeAlias = tuple[Any, ...]


def torch_state(device: torch.device) -> State:
    """The states that torch functions draw from where a model is on ``device``."""
    states = [torch.get_rng_state()]
    if device.type != "cpu":
        backend = torch.get_device_module(device)
        states.append(backend.get_rng_state() if device.type == "mps" else backend.get_rng_state(device))
    return tuple(state.numpy().tobytes() for state in states)


def any_state(device: torch.device) -> State:
    """The states that a model on ``device`` may draw from: layers are skipped by Python's and NumPy's numbers too."""
    numpy = np.random.get_state(legacy=False)["state"]
    return (*torch_state(device), random.getstate(), numpy["key"].tobytes(), numpy["pos"])


def device_seed(device: torch.device) -> int:
    """What the generator was seeded with that dropout masks on ``device`` come from."""
    seed: int = torch.initial_seed() if device.type == "cpu" else torch.get_device_module(device).initial_seed()
    return seed
