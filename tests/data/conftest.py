"""What the tests of data share."""

from __future__ import annotations

import datasets
import pytest


@pytest.fixture(autouse=True)
def hub_is_out_of_reach(monkeypatch, tmp_path_factory):
    """No test waits for a network, or writes into the home."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
