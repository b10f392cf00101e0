"""What a recipe describes, built and not run."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lightning.pytorch import Callback, LightningDataModule, LightningModule

from lightning_dropout.cli.errors import UserError, configuring, mendable
from lightning_dropout.cli.process import ignored_warnings, lightning_log
from lightning_dropout.cli.recipes import find_recipe
from lightning_dropout.cli.training import DropoutCLI

__all__ = ["Assembly", "guarded"]


@contextmanager
def guarded() -> Iterator[None]:
    """Find modules in the working folder, keep Lightning quiet, and say in one line what a user can mend."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        with ignored_warnings(), lightning_log(logging.WARNING):
            yield
    except Exception as error:
        message = mendable(error)
        if message is None:
            raise
        raise UserError(message) from error


class Assembly(DropoutCLI):
    """The model, the data and the callbacks of a recipe; there is no trainer, and nothing is written.

    Args:
        recipe: Its name, or the path of a YAML file.
        overrides: As behind ``lightning run``.

    Raises:
        UserError: If the recipe or an override cannot be used.
    """

    model: LightningModule
    datamodule: LightningDataModule | None

    def __init__(self, recipe: str, overrides: Sequence[str]) -> None:
        path = find_recipe(recipe)
        if path.suffix == ".py":
            raise UserError(f"{recipe} is a script. Give a recipe or a YAML file.")
        super().__init__(["fit", "--config", str(path), *overrides], name=path.stem)

    @property
    def callbacks(self) -> list[Callback]:
        """Those of the trainer, in their order."""
        given = self._get(self.config_init, "trainer").callbacks
        return given if isinstance(given, list) else [] if given is None else [given]

    def instantiate_classes(self) -> None:
        """Build everything but the trainer, whose devices may not be here."""
        with configuring():
            self.config_init = self.parser.instantiate_classes(self.config)
        self.model, self.datamodule = self._get(self.config_init, "model"), self._get(self.config_init, "data")

    def after_instantiate_classes(self) -> None:
        """Nothing is written, so nothing has to be checked for it."""

    def _run_subcommand(self, subcommand: str) -> None:
        pass
