"""Run a module's own validation on other batches, without a trace."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers.logger import DummyLogger, Logger
from lightning.pytorch.utilities.seed import isolate_rng
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature

from lightning_dropout_callbacks.compiled import has_compiled_code
from lightning_dropout_callbacks.log_capture import LogCapture
from lightning_dropout_callbacks.scratch import Scratch

__all__ = ["TrainProbe"]


class TrainProbe:
    """One validation of a module on training batches, as if they were the validation data.

    Made where a validation begins, it starts from the state that validation starts from: the modes, the weights (also
    those that a weight averaging callback has put in), the empty lists. It runs the module's own hooks for batches and
    for the end of the epoch, and ``validation_step``, on a second copy of the state. Random numbers come from ``seed``.
    """

    def __init__(self, trainer: Trainer, module: LightningModule, *, seed: int) -> None:
        self.logged = LogCapture()
        self._trainer, self._module, self._seed = trainer, module, seed
        groups = (group for optimizer in trainer.optimizers for group in optimizer.param_groups)
        schedulers = (config.scheduler for config in trainer.lr_scheduler_configs)
        self._scratch = Scratch([module, *schedulers, *groups])
        self._class = _capturing(type(module), self.logged)
        stand_in = _QuietTrainer(trainer, self.logged)
        with self._scratch.entered():
            for part in module.modules():
                if "_trainer" in vars(part):
                    vars(part)["_trainer"] = stand_in

    def run_steps(self, batches: Iterable[Any], num_batches: int, *, dataloader_idx: int | None = None) -> None:
        """Run ``validation_step`` on the first batches, as loader ``dataloader_idx`` where there are several."""
        module, trainer = self._module, self._trainer
        loader = () if dataloader_idx is None else (dataloader_idx,)
        self.logged.dataloader_idx = dataloader_idx
        with self._possessed("validation_step"):
            for batch_idx, batch in enumerate(islice(batches, num_batches)):
                batch = trainer.precision_plugin.convert_input(batch)
                batch = module._on_before_batch_transfer(batch, *loader)
                batch = trainer.strategy.batch_to_device(batch, dataloader_idx=dataloader_idx or 0)
                self.logged.batch = batch
                module.on_validation_batch_start(batch, batch_idx, *loader)
                takes_index = is_param_in_hook_signature(module.validation_step, "batch_idx", min_args=2)
                with trainer.precision_plugin.val_step_context():
                    outputs = module.validation_step(batch, *((batch_idx,) if takes_index else ()), *loader)
                module.on_validation_batch_end(outputs, batch, batch_idx, *loader)
            self.logged.batch = self.logged.dataloader_idx = None
            self.logged.collect()

    def run_epoch_end(self) -> None:
        """Run the module's ``on_validation_epoch_end``, which may log what its steps have gathered."""
        with self._possessed("on_validation_epoch_end"):
            self._module.on_validation_epoch_end()
            self.logged.collect()

    @contextmanager
    def _possessed(self, hook: str) -> Iterator[None]:
        module = self._module
        user_class = type(module)
        # Code that was compiled for the module's own methods is guarded by its class, and would be compiled again.
        eager = torch.compiler.set_stance("force_eager") if has_compiled_code(module) else nullcontext()
        with _isolated_rng(self._seed + self._trainer.global_rank), self._scratch.entered():
            vars(module)["_current_fx_name"] = hook
            object.__setattr__(module, "__class__", self._class)
            try:
                with eager:
                    yield
            finally:
                object.__setattr__(module, "__class__", user_class)


class _QuietTrainer:
    """What the module sees as its trainer: the real one, less what would leave a trace.

    Values logged on the training batches stand where those of the validation would; attributes that are set stay here.
    """

    _results = None  # what logs past the capture has nowhere to log to

    def __init__(self, trainer: Trainer, logged: LogCapture) -> None:
        self._real, self._logged = trainer, logged
        self.loggers = [_SilentLogger(logger) for logger in trainer.loggers]
        self.logger = self.loggers[0] if self.loggers else None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    @property
    def callback_metrics(self) -> dict[str, torch.Tensor]:
        values = {name: torch.tensor(share.value) for name, share in self._logged.shares.items()}
        return {**self._real.callback_metrics, **values}

    logged_metrics = callback_metrics

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        pass

    print = save_checkpoint


def _as_in_reality(name: str) -> Any:
    return property(lambda self: getattr(self._real, name))


class _SilentLogger(DummyLogger):
    """Knows where a logger writes to, and writes nothing."""

    name, version = _as_in_reality("name"), _as_in_reality("version")
    save_dir, root_dir, log_dir = _as_in_reality("save_dir"), _as_in_reality("root_dir"), _as_in_reality("log_dir")

    def __init__(self, logger: Logger) -> None:
        super().__init__()
        self._real = logger


def _capturing(user_class: type, logged: LogCapture) -> type:
    """``user_class`` with Lightning's ``log`` replaced beneath the user's own overrides of it."""
    lightning_class = next(cls for cls in reversed(user_class.__mro__) if "log_dict" in vars(cls))

    def log(
        self: LightningModule,
        name: str,
        value: Any,
        prog_bar: bool = False,
        logger: bool | None = None,
        on_step: bool | None = None,
        on_epoch: bool | None = None,
        reduce_fx: Any = "mean",
        enable_graph: bool = False,
        sync_dist: bool = False,
        sync_dist_group: Any = None,
        add_dataloader_idx: bool = True,
        batch_size: int | None = None,
        **_: Any,
    ) -> None:
        logged.log(
            name,
            value,
            on_epoch=on_epoch,
            reduce_fx=reduce_fx,
            sync_dist=sync_dist,
            add_dataloader_idx=add_dataloader_idx,
            batch_size=batch_size,
        )

    def ignore(self: LightningModule, *args: Any, **kwargs: Any) -> None:
        pass

    # The first base keeps a registry of subclasses, which users build with __init_subclass__, from hearing of this one.
    first = type("_Unregistered", (), {"__init_subclass__": classmethod(lambda cls: None)})
    last = type(lightning_class.__name__, (lightning_class,), {"log": log, "print": ignore})
    names = {name: getattr(user_class, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(user_class.__name__, (first, user_class, last), names)


@contextmanager
def _isolated_rng(seed: int) -> Iterator[None]:
    isolation = isolate_rng()
    isolation.__enter__()
    mps_state = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        yield
    finally:
        isolation.__exit__(None, None, None)  # as if nothing was raised, or it would restore nothing
        if mps_state is not None:
            torch.mps.set_rng_state(mps_state)
