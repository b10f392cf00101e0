"""Verify train() and eval() by what dropout does, not only by what the flags say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import nn

from lightning_dropout.sites import Sites, find_sites
from lightning_dropout_callbacks.eval_probe import EvalProbe
from lightning_dropout_callbacks.mc_dropout import MCDropout

__all__ = ["DropoutModeError", "ModeGuard"]

_MAX_NAMED = 8


class DropoutModeError(RuntimeError):
    """Dropout was off in training or on in evaluation, and the guard was told to raise."""


class ModeGuard(Callback):
    """Verify that dropout is on in training and off in evaluation.

    Checks, at train start, that no site with a rate above 0 sits in eval mode (``from_pretrained`` of Hugging Face
    returns models in eval mode, and ``fit`` never calls ``train()``); in every validation, test and predict run, that
    no dropout call is active, also those no module owns, such as ``F.dropout(x)`` without ``training=``; after every
    validation, that all modules are in the mode they were in before. Frozen parts of a model are exempt from the first.

    Each batch runs once: the probed batch is observed, not repeated. Nothing is drawn, written or reduced.

    Args:
        on_violation: ``"warn"``; ``"raise"`` a ``DropoutModeError``; or ``"fix"`` what a mode can fix, and say so.
            Active calls that ignore the mode cannot be fixed from outside: they are warned about.

    Example:
        >>> import torch.nn.functional as F
        >>> from lightning.pytorch.demos.boring_classes import BoringModel
        >>> class Leaky(BoringModel):
        ...     def forward(self, x):
        ...         return self.layer(F.dropout(x, 0.1))
        >>> trainer = Trainer(fast_dev_run=True, accelerator="cpu", callbacks=[ModeGuard("raise")])
        >>> trainer.fit(Leaky())
        Traceback (most recent call last):
            ...
        lightning_dropout_callbacks.mode_guard.DropoutModeError: Dropout is active in ...
    """

    def __init__(self, on_violation: Literal["warn", "raise", "fix"] = "warn") -> None:
        if on_violation not in ("warn", "raise", "fix"):
            raise ValueError(f"ModeGuard(on_violation={on_violation!r}): on_violation is 'warn', 'raise' or 'fix'.")
        self.on_violation = on_violation
        #: What was found, one message each, in the order of finding.
        self.findings: list[str] = []
        self._num_checks = 0
        self._probe = EvalProbe()
        self._modes: dict[nn.Module, bool] = {}
        self._reported: set[str] = set()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start counting anew."""
        self.findings = []
        self._num_checks = 0
        self._probe = EvalProbe()
        self._modes = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for sites that would stay off in training."""
        self._num_checks += 1
        silent = _without_frozen(pl_module, _active_sites(pl_module, training=False))
        if silent:
            if self.on_violation == "fix":
                _set_modes((site.module, True) for site in silent)
            self._report(
                f"{_count(silent)} with a rate above 0 {_are(silent)} in eval mode at the start of training and would "
                f"drop nothing: {_named(silent)}. Call .train() on the model before fit, as Hugging Face's "
                "from_pretrained() returns it in eval mode."
            )

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Compare the modes after a validation with those before it."""
        self._compare_modes("after validation")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remember the modes if a validation may follow."""
        every = trainer.val_check_batch or float("inf")
        batches = (batch_idx + 1, trainer.fit_loop.total_batch_idx + 1)
        if trainer.is_last_batch or any(n % every == 0 for n in batches):
            self._modes = {module: module.training for module in pl_module.modules()}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the modes after a validation with those before it."""
        self._compare_modes("after validation")

    def _compare_modes(self, when: str) -> None:
        if not self._modes:
            return
        self._num_checks += 1
        before, self._modes = self._modes, {}
        changed = [module for module, training in before.items() if module.training != training]
        if changed:
            if self.on_violation == "fix":
                _set_modes((module, before[module]) for module in changed)
            kinds = ", ".join(dict.fromkeys(type(module).__name__ for module in changed))
            was = "train" if before[changed[0]] else "eval"
            self._report(
                f"{len(changed)} modules are not in the mode {when} that they were in before it, {was}: {kinds}. "
                "Look for .train() or .eval() calls in validation, and for on_validation_model_train()."
            )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for sites that are left in train mode."""
        self._start_evaluation(pl_module, "validation")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for sites that are left in train mode."""
        self._start_evaluation(pl_module, "test")

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for sites that are left in train mode."""
        self._start_evaluation(pl_module, "predict")

    def _start_evaluation(self, pl_module: LightningModule, stage: str) -> None:
        self._num_checks += 1
        self._probe.start_run()
        loud = _active_sites(pl_module, training=True)
        self._reported = {name for site in loud for name in site.names}
        if loud:
            if self.on_violation == "fix":
                _set_modes((site.module, False) for site in loud)
            self._report(
                f"{_count(loud)} with a rate above 0 {_are(loud)} in train mode in {stage}: {_named(loud)}. "
                "Look for .train() calls in evaluation hooks, and for modules that ignore .eval()."
            )

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Begin to observe the batch."""
        sizes = trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches
        self._start_batch(pl_module, sizes)

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Begin to observe the batch."""
        self._start_batch(pl_module, trainer.num_test_batches)

    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Begin to observe the batch, unless its dropout is meant."""
        if not _is_sampling(trainer):
            self._start_batch(pl_module, trainer.num_predict_batches)

    def _start_batch(self, pl_module: LightningModule, num_batches: Iterable[float]) -> None:
        self._probe.start_batch(pl_module, pl_module.device, only_batch=sum(num_batches) == 1)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Name the dropout calls that were active in the batch."""
        self._end_batch(pl_module, "validation")

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Name the dropout calls that were active in the batch."""
        self._end_batch(pl_module, "test")

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Name the dropout calls that were active in the batch, unless they are meant."""
        if not _is_sampling(trainer):
            self._end_batch(pl_module, "predict")

    def _end_batch(self, pl_module: LightningModule, stage: str) -> None:
        events = [event for event in self._probe.end_batch(pl_module.device) if event.module not in self._reported]
        if events:
            self._report(
                f"Dropout is active in {stage}: {'; '.join(map(str, events[:_MAX_NAMED]))}. "
                "Pass training=self.training, or the rate only in training.",
            )

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the probe; Lightning leaves a model in eval mode when validation fails, so say so or fix it."""
        self._probe.close()
        if not isinstance(exception, DropoutModeError) and trainer.state.fn == "fit":
            self._compare_modes("after a failed validation")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sum up in one line."""
        found = f"{len(self.findings)} found" if self.findings else "nothing found"
        rank_zero_info(f"ModeGuard: {self._num_checks} checks of train and eval modes, {found}.")

    def _report(self, message: str) -> None:
        if message in self.findings:
            return
        self.findings.append(message)
        if self.on_violation == "raise":
            raise DropoutModeError(message)
        rank_zero_warn(f"ModeGuard: {message}")


def _is_sampling(trainer: Trainer) -> bool:
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return any(isinstance(callback, MCDropout) for callback in callbacks)


def _active_sites(model: nn.Module, *, training: bool) -> Sites:
    return Sites([site for site in find_sites(model) if site.rate > 0.0 and site.module.training == training])


def _without_frozen(model: nn.Module, sites: Sites) -> Sites:
    """Leave out the sites whose nearest surrounding module that has parameters has none to train."""
    parents = {child: parent for parent in model.modules() for child in parent.children()}

    def is_frozen(module: nn.Module | None) -> bool:
        while module is not None:
            trainable = [parameter.requires_grad for parameter in module.parameters()]
            if trainable:
                return not any(trainable)
            module = parents.get(module)
        return False

    return Sites([site for site in sites if not is_frozen(site.module)])


def _set_modes(modes: Iterable[tuple[nn.Module, bool]]) -> None:
    for module, training in modes:
        module.training = training  # not train(): the mode of its children is judged on its own


def _count(sites: Sites) -> str:
    return f"{len(sites)} dropout site{'s' if len(sites) > 1 else ''}"


def _are(sites: Sites) -> str:
    return "are" if len(sites) > 1 else "is"


def _named(sites: Sites) -> str:
    groups = sites.groups().items()
    names = [f"'{name}' ({len(group)})" if len(group) > 1 else f"'{group[0].name}'" for name, group in groups]
    return ", ".join(names[:_MAX_NAMED]) + (f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else "")
