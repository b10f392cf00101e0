"""What holds for the package as a whole: names, import directions, optional imports."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import lightning_dropout
import lightning_dropout.callbacks

ROOT = Path(lightning_dropout.__file__).parent
CALLBACKS = Path(importlib.import_module("lightning_dropout_callbacks").__file__ or "").parent

ALLOWED = {
    "schedules": set(),
    "layers": set(),
    "sites": {"layers"},
    "models": {"layers"},
    "metrics": set(),
    "modules": {"models", "layers", "metrics"},
    "data": set(),
    "uncertainty": {"sites"},
    "lightning_dropout_callbacks": {"schedules", "sites", "metrics", "uncertainty"},
    "callbacks": {"lightning_dropout_callbacks"},
}


def _area(module: str) -> str | None:
    parts = module.split(".")
    if parts[0] == "lightning_dropout_callbacks":
        return parts[0]
    return parts[1] if parts[0] == "lightning_dropout" and len(parts) > 1 else None


def _source_files() -> list[tuple[str, Path]]:
    files = []
    for root, package in ((ROOT, "lightning_dropout"), (CALLBACKS, "lightning_dropout_callbacks")):
        for path in sorted(root.rglob("*.py")):
            area = _area(".".join((package, *path.relative_to(root).with_suffix("").parts)))
            if area in ALLOWED:
                files.append((area, path))
    return files


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize(("area", "path"), _source_files(), ids=lambda value: getattr(value, "name", value))
def test_imports_run_in_one_direction(area: str, path: Path) -> None:
    used = {_area(name) for name in _imports(path)} - {None, area}
    assert used <= ALLOWED[area], f"{path} imports {used - ALLOWED[area]}"


def test_every_area_of_the_source_is_covered_by_a_rule() -> None:
    areas = {path.stem for path in ROOT.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert areas - set(ALLOWED) <= {"__init__", "__main__", "__pycache__", "cli", "_recipes", "py"}


def test_every_public_name_is_there_and_documented() -> None:
    for name in lightning_dropout.__all__:
        assert getattr(lightning_dropout, name) is not None
        assert name == "__version__" or getattr(lightning_dropout, name).__doc__
    for name in lightning_dropout.callbacks.__all__:
        assert getattr(lightning_dropout.callbacks, name).__doc__
    assert set(lightning_dropout.__all__) == set(dir(lightning_dropout))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Dropuot'"):
        _ = lightning_dropout.Dropuot


def test_all_lists_what_a_package_exports() -> None:
    for module in pkgutil.iter_modules([str(ROOT)], "lightning_dropout."):
        package = importlib.import_module(module.name)
        for name in getattr(package, "__all__", []):
            assert hasattr(package, name), f"{module.name}.{name}"


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_importing_the_package_imports_nothing_heavy() -> None:
    result = _run("import sys, lightning_dropout; assert 'torch' not in sys.modules, 'torch'")
    assert result.returncode == 0, result.stderr


def test_callbacks_work_where_wandb_datasets_and_matplotlib_cannot_be_imported() -> None:
    result = _run(
        """
import sys
from importlib import metadata

hidden = ("wandb", "datasets", "matplotlib", "transformers")
sys.modules.update(dict.fromkeys(hidden))
find = metadata.distribution

def distribution(name):
    if name in hidden:  # torchmetrics asks for what is installed, not for what can be imported
        raise metadata.PackageNotFoundError(name)
    return find(name)

metadata.distribution = distribution
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from torch import nn
from lightning_dropout import callbacks

class Model(BoringModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(32, 2), nn.Dropout(0.1))

attached = [callbacks.DropoutScheduler(0.2), *callbacks.default_callbacks()]
Trainer(max_epochs=1, limit_train_batches=2, limit_val_batches=2, accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, callbacks=attached).fit(Model())
"""
    )
    assert result.returncode == 0, result.stderr
