"""What is inspected: a model, and what to run it on."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor, nn

from lightning_dropout.cli.assembly import Assembly
from lightning_dropout.cli.errors import UserError

__all__ = ["Subject", "imported_subject", "random_inputs", "recipe_subject"]


class Subject(NamedTuple):
    """A model and the arguments of its forward; ``args`` is None where none are known."""

    model: nn.Module
    args: tuple[Any, ...] | None = None
    kwargs: Mapping[str, Any] = {}


def recipe_subject(recipe: str, overrides: Sequence[str]) -> Subject:
    """The model of a recipe, and the first training batch of its data."""
    assembly = Assembly(recipe, overrides)
    subject = _with_example(assembly.model)
    if subject.args is None and assembly.datamodule is not None:
        return _called_with(assembly.model, _first_batch(assembly.datamodule))
    return subject


def imported_subject(target: str) -> Subject:
    """The model ``module:name``, or what the callable of that name returns.

    Raises:
        UserError: If there is no such model.
    """
    module_name, _, name = target.partition(":")
    found: Any = _import(module_name)
    for attribute in name.split("."):
        if not hasattr(found, attribute):
            near = get_close_matches(attribute, dir(found), n=1)
            hint = f"Did you mean {near[0]!r}?" if near else "Give the name of a model, or of what builds one."
            raise UserError(f"{module_name} has no {name!r}. {hint}")
        found = getattr(found, attribute)
    if not isinstance(found, nn.Module) and callable(found):
        found = _call(target, found)
    if not isinstance(found, nn.Module):
        raise UserError(f"{target} is a {type(found).__name__}. Give a torch.nn.Module or what builds one.")
    return _with_example(found)


def random_inputs(shapes: Sequence[Sequence[int]], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Normal numbers of the given shapes, or zeros of a ``dtype`` that has no fractions: every vocabulary has 0."""
    generator = torch.Generator().manual_seed(0)
    if not dtype.is_floating_point:
        return tuple(torch.zeros(*shape, dtype=dtype) for shape in shapes)
    return tuple(torch.randn(*shape, generator=generator).to(dtype) for shape in shapes)


def _import(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        missing = str(error.name)
        if name == missing or name.startswith(f"{missing}."):
            raise UserError(f"there is no module {missing!r}. Run this where it can be imported.") from None
        raise UserError(f"{name} imports {missing!r}, which is not installed.") from error


def _call(target: str, build: Any) -> Any:
    try:
        inspect.signature(build).bind()
    except TypeError as error:
        raise UserError(f"{target} cannot be called as it is: {error}. Give a callable without arguments.") from None
    except ValueError:  # it does not say what it takes
        pass
    return build()


def _with_example(model: nn.Module) -> Subject:
    example = model.example_input_array if isinstance(model, LightningModule) else None
    return Subject(model) if example is None else _called_with(model, example)


def _called_with(model: nn.Module, inputs: Any) -> Subject:
    """A batch as Lightning's ``example_input_array`` is read, and of (inputs, targets) the inputs."""
    if isinstance(inputs, Mapping):
        return Subject(model, (), dict(inputs))
    return Subject(model, tuple(inputs) if isinstance(inputs, tuple) else (inputs,))


def _first_batch(data: LightningDataModule) -> Any:
    data.prepare_data()
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    return batch[0] if isinstance(batch, (tuple, list)) else batch
