"""LightningCLI with a folder for every run, W&B beside the metrics, and errors of one line."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn
from zipfile import is_zipfile

import torch
import yaml
from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from lightning_dropout.cli.closing import load_best, print_closing
from lightning_dropout.cli.errors import UserError, configuring, mendable
from lightning_dropout.cli.export import check_export, export_folder
from lightning_dropout.cli.links import DataLinks
from lightning_dropout.cli.messages import explain
from lightning_dropout.cli.owners import spelled
from lightning_dropout.cli.process import hangup_exits, ignored_warnings, leave_process_group, lightning_log
from lightning_dropout.cli.progress import RunProgress
from lightning_dropout.cli.strict_yaml import STRICT_YAML
from lightning_dropout.cli.tracking import Run, finish_wandb
from lightning_dropout.data import TextData

__all__ = ["DropoutCLI", "fit", "launch", "predict", "test", "validate"]

_MAX_DEVICES = 1024


def launch(arguments: Sequence[str], *, name: str) -> int:
    """Run a LightningCLI command line and return its exit code.

    Raises:
        UserError: If the command line, a configuration file or the data cannot be used.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # classes of the user's own, as under `python -m`
    try:
        with ignored_warnings(), lightning_log(logging.WARNING):
            DropoutCLI([_with_underscore(argument) for argument in arguments], name=name)
            leave_process_group()
    except Exception as error:
        message = mendable(error)
        if message is None:
            raise
        raise UserError(message) from error
    return 0


def _command(name: str, arguments: Sequence[str]) -> int:
    return launch([name, *arguments], name=name)


fit, validate, test, predict = (partial(_command, name) for name in ("fit", "validate", "test", "predict"))


def _with_underscore(argument: str) -> str:
    return "--print_config" + argument[14:] if argument.startswith("--print-config") else argument


class DropoutCLI(LightningCLI):
    """LightningCLI as this package's commands use it.

    A ``fit`` without ``trainer.logger`` writes everything into one folder, ``run.folder``/version_N. Sizes of the
    network, such as its ``vocab_size``, come from the data where the configuration gives none.

    Args:
        arguments: The command line, beginning with fit, validate, test or predict.
        name: Names the folder of runs.
    """

    def __init__(self, arguments: list[str], *, name: str) -> None:
        self.run_name = name
        self.asked = arguments[0]
        super().__init__(
            args=arguments,
            save_config_callback=SaveConfig if self.asked == "fit" else None,
            seed_everything_default=0,
            parser_class=_Parser,
            parser_kwargs={"prog": "lightning-dropout", "allow_abbrev": False, "parser_mode": STRICT_YAML},
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Only what was typed: the parsers of the other commands would take three times as long to build."""
        return {self.asked: LightningCLI.subcommands()[self.asked]}

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        # Lightning's own default would run code in a checkpoint that comes from a URL.
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        parser.set_defaults({"weights_only": True})
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options ``run.*``."""
        parser.add_class_arguments(Run, "run")
        parser.set_defaults({"run.folder": f"runs/{self.run_name}"})

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse; what the model has to know about its data and is not told, it gets from the data."""
        links = DataLinks(list(self._subcommand_parsers.values()))
        refusal: UserError | None = None
        while True:
            try:
                with configuring():
                    self.config = parser.parse_args(args)
                break
            except UserError as error:
                refusal = refusal or error
                if not links.resolve(error):
                    raise
        config = self.config[self.config["subcommand"]]
        if not isinstance(config.trainer, Namespace):
            raise UserError(f"trainer: found {config.trainer!r}. Give a mapping of its keys.")
        if not 0 <= int(config.seed_everything or 0) < 2**32:
            raise UserError(
                f"seed_everything: found {config.seed_everything}. Give a whole number from 0 to 2**32 - 1."
            )
        if refusal is not None and links.unanswered(config):
            raise refusal
        links.complete(config)

    def _parse_ckpt_path(self) -> None:
        # Lightning lets the settings in a checkpoint override the command line; in a fit, what was typed counts.
        if self.config["subcommand"] != "fit":
            super()._parse_ckpt_path()

    def after_instantiate_classes(self) -> None:
        """Refuse what cannot be exported and checkpoints that cannot be used, before anything is written."""
        if self.subcommand == "fit" and self.run.export is not None:
            check_export(self.model)
        path = self._get(self.config, "ckpt_path")
        if path is None or not os.path.isfile(path):
            return
        if not is_zipfile(path):
            raise UserError(f"{path} is no checkpoint, or one that was cut off.")
        if isinstance(self.datamodule, TextData):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
            if (state := checkpoint.get(type(self.datamodule).__qualname__)) is not None:
                self.datamodule.load_state_dict(state)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Give a trainer whose configuration names no logger those of the run, and nothing to write elsewhere."""
        asked = self._get(self.config_init, "trainer")
        self.run: Run = self._get(self.config_init, "run")
        if str(asked.devices).isdecimal() and int(asked.devices) > _MAX_DEVICES:  # on a CPU, each would be a process
            raise UserError(f"trainer.devices: found {asked.devices}. Give at most {_MAX_DEVICES}.")
        if asked.logger is None:
            kwargs["logger"] = self.run.loggers() if self.subcommand == "fit" else False
        if asked.default_root_dir is None and self.subcommand == "fit":
            kwargs["default_root_dir"] = str(self.run.path)
        if self.subcommand == "fit" and asked.enable_progress_bar is not False and not asked.barebones:
            callbacks = asked.callbacks if isinstance(asked.callbacks, list) else [asked.callbacks]
            given = [callback for callback in callbacks if callback is not None]
            if not any(isinstance(callback, ProgressBar) for callback in given):
                kwargs["callbacks"] = [*given, RunProgress()]
        return super().instantiate_trainer(**kwargs)

    def instantiate_classes(self) -> None:
        """Build model, data and trainer."""
        with configuring():
            super().instantiate_classes()

    def fit(self, model: LightningModule, **kwargs: Any) -> None:
        """Train, close the W&B run however that ends, and say what came of it."""
        for logger in self.trainer.loggers:
            if isinstance(logger, CSVLogger):
                _ = logger.experiment  # makes the folder, before Lightning lets W&B write into it
        try:
            with lightning_log(logging.INFO), hangup_exits():
                self.trainer.fit(model, **kwargs)
        except BaseException as error:
            finish_wandb(exit_code=1)
            if mendable(error) and self.trainer.is_global_zero:
                self.run.discard()
            if isinstance(error.__context__, KeyboardInterrupt):
                self._close()
            if isinstance(error, SIGTERMException):
                raise SystemExit(128 + signal.SIGTERM) from error
            raise
        finish_wandb(exit_code=0)
        self._close()

    def _close(self) -> None:
        if self.trainer.is_global_zero and not self._get(self.config_init, "trainer").fast_dev_run:
            load_best(self.trainer)
            export = None if self.run.export is None else Path(self.run.export)
            if export is not None:
                export_folder(self.model, self.datamodule, export)
            print_closing(
                self.trainer,
                self.datamodule,
                folder=self.run.path,
                export=export,
                next_command=self.run.next and spelled(self.run.next),
            )


class SaveConfig(SaveConfigCallback):
    """Also gives the configuration to W&B."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write every key to the W&B runs of ``trainer``."""
        config = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_hyperparams(config)


class _Parser(LightningArgumentParser):
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:
            super().error(message, ex)
        command = self._subcommands_action  # the one that there is knows the options
        raise UserError(explain(message, next(iter(command.choices.values())) if command else self)) from ex
