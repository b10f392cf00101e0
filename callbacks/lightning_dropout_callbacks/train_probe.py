"""Run a module's own validation on other batches, without a trace."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
from torch import nn

from lightning_dropout.sites import intended_dropout
from lightning_dropout_callbacks.compiled import has_compiled_code, runs_compiled
from lightning_dropout_callbacks.log_capture import LogCapture
from lightning_dropout_callbacks.quiet_trainer import QuietTrainer
from lightning_dropout_callbacks.rng_isolation import isolated_rng, seed_everything
from lightning_dropout_callbacks.scratch import Scratch

__all__ = ["TrainProbe"]


class TrainProbe:
    """One validation of a module on training batches, as if they were the validation data.

    Made where a validation begins, it starts from the state that validation starts from: the modes, the weights (also
    those that a weight averaging callback has put in), the empty lists. It runs the module's own hooks for batches and
    for the end of the epoch, and ``validation_step``, on a second copy of the state.

    The random numbers of a batch come from ``seed`` and from the place of the batch among those of all ranks, so that
    they are the same in every validation, with dropout on or off, and on one process as on several.

    Args:
        trainer: The trainer that validates.
        module: The module that is validated.
        seed: Where random numbers come from.
        switched_on: Modules that run in train mode; not their children.
    """

    def __init__(
        self, trainer: Trainer, module: LightningModule, *, seed: int, switched_on: Collection[nn.Module] = ()
    ) -> None:
        self.logged = LogCapture()
        self._trainer, self._module, self._seed, self._switched_on = trainer, module, seed, switched_on
        groups = (group for optimizer in trainer.optimizers for group in optimizer.param_groups)
        schedulers = (config.scheduler for config in trainer.lr_scheduler_configs)
        self._scratch = Scratch([module, *schedulers, *groups])
        self._class = _capturing(type(module), self.logged)
        stand_in = QuietTrainer(trainer, self.logged)
        with self._scratch.entered():
            for part in module.modules():
                if "_trainer" in vars(part):
                    vars(part)["_trainer"] = stand_in

    def run_steps(self, batches: Iterable[Any], num_batches: int, *, dataloader_idx: int | None = None) -> None:
        """Run ``validation_step`` on the first batches, as loader ``dataloader_idx`` where there are several."""
        module, trainer = self._module, self._trainer
        loader = () if dataloader_idx is None else (dataloader_idx,)
        shares = trainer.distributed_sampler_kwargs or {"rank": 0, "num_replicas": 1}
        self.logged.dataloader_idx = dataloader_idx
        with self._possessed("validation_step"):
            iterator = iter(batches)
            for batch_idx in range(num_batches):
                place = batch_idx * shares["num_replicas"] + shares["rank"]
                seed_everything(random.Random(f"{self._seed} {place}").getrandbits(63))
                batch = trainer.precision_plugin.convert_input(next(iterator))
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
        # Code that was compiled for the module's own methods is guarded by its class, and all code by the modes in it:
        # it would be compiled again.
        would_compile = runs_compiled(module) if self._switched_on else has_compiled_code(module)
        eager = torch.compiler.set_stance("force_eager") if would_compile else nullcontext()
        with isolated_rng(self._seed), self._scratch.entered(), _train_mode(self._switched_on):
            vars(module)["_current_fx_name"] = hook
            object.__setattr__(module, "__class__", self._class)
            try:
                with eager:
                    yield
            finally:
                object.__setattr__(module, "__class__", user_class)


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
def _train_mode(modules: Collection[nn.Module]) -> Iterator[None]:
    """Inside a ``with`` block these modules drop, and whoever watches knows that it is meant."""
    if not modules:
        yield
        return
    modes = {module: module.training for module in modules}
    has_fast_path = torch.backends.mha.get_fastpath_enabled()  # the fused kernels of encoders know no dropout
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        for module in modules:
            module.training = True
        with intended_dropout():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(has_fast_path)
        for module, mode in modes.items():
            module.training = mode
