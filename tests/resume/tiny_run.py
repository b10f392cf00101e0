"""A tiny training run that writes down all that it does."""

from __future__ import annotations

import hashlib
import random
import string
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers.logger import Logger

import lightning_dropout as ld
from lightning_dropout.callbacks import AdaptiveDropout, DropoutScheduler, OverfittingMonitor, RankSeed
from lightning_dropout.schedules import Linear

NUM_BATCHES, NUM_EPOCHS = 6, 3
TEXT = "".join(random.Random(0).choices(string.ascii_lowercase, k=2500))


class Killed(BaseException):
    """What nobody catches, as nobody catches SIGKILL."""


class Rows(Logger):
    """Keeps what is logged."""

    name = version = None

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:  # type: ignore[override]
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass


class Recorder(Callback):
    """Writes down what every step did: its batch, masks and rates, and the weights that came of it."""

    def __init__(self) -> None:
        self.steps: list[list[Any]] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        sites = ld.find_sites(pl_module)
        self.rates = sites.rates()
        self.masks: list[torch.Tensor] = []
        self.hooks = [
            site.module.register_forward_hook(lambda *call: self.masks.append(call[2] == 0))
            for site in sites
            if site.kind == "element"
        ]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        for hook in self.hooks:
            hook.remove()
        done = digest(batch), digest(self.masks), list(self.rates.values()), digest(pl_module.state_dict().values())
        self.steps.append([trainer.current_epoch, batch_idx, trainer.global_step, *done])


class KillAt(Callback):
    """Ends the run as the given batch, counted over all epochs, begins."""

    def __init__(self, batch: int, kill: Callable[[], None] | None = None) -> None:
        self.batch, self.kill = batch, kill

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        if trainer.fit_loop.total_batch_idx == self.batch:
            if self.kill is not None:
                self.kill()
            raise Killed


def digest(tensors: Iterable[torch.Tensor]) -> str:
    sha = hashlib.sha1()
    for tensor in tensors:
        sha.update(tensor.detach().contiguous().numpy().tobytes())
    return sha.hexdigest()


class Run(NamedTuple):
    """What happened: every step, every logged row, and the weights in the end."""

    steps: list[Any]
    rows: list[Any]
    weights: str

    def continues(self, whole: Run) -> bool:
        """Whether this is how ``whole`` ended."""
        return (
            self.steps == whole.steps[len(whole.steps) - len(self.steps) :]
            and self.rows == whole.rows[len(whole.rows) - len(self.rows) :]
            and self.weights == whole.weights
        )


def fit(
    folder: Path,
    *callbacks: Callback,
    adaptive: bool = False,
    ckpt_path: Path | None = None,
    num_workers: int = 0,
    **settings: Any,
) -> Run:
    """Train a character model, to the end or until it is killed."""
    seed_everything(1, verbose=False)
    text = folder / "text.txt"
    text.write_text(TEXT)
    rates = ld.TransformerDropout(emb=0.1, attn=0.1, attn_sublayer=0.1, ff=0.1, ff_sublayer=0.2)
    network = ld.Transformer(vocab_size=27, num_layers=1, num_heads=2, dim=8, context_length=8, dropout=rates)
    module = ld.LanguageModel(network, lr=1e-2)
    data = ld.TextData(str(text), context_length=8, batch_size=4, num_workers=num_workers)
    writers = [OverfittingMonitor(2, plot=False), AdaptiveDropout(start=0.5, bounds=(0.05, 0.7))] if adaptive else []
    rows, recorder = Rows(), Recorder()
    trainer = Trainer(
        **{"max_epochs": NUM_EPOCHS, "limit_train_batches": NUM_BATCHES, "limit_val_batches": 2, **settings},
        accelerator="cpu",
        logger=rows,
        log_every_n_steps=1,
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[RankSeed(), *(writers or [DropoutScheduler(Linear(0.1, 0.5))]), recorder, *callbacks],
    )
    with suppress(Killed, SystemExit):
        trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=True)
    return Run(recorder.steps, rows.rows, digest(module.state_dict().values()))


def last_checkpoint(folder: Path) -> Path | None:
    """The one that was written last, if there is one."""
    return max(folder.glob("checkpoints/*.ckpt"), key=lambda path: path.stat().st_mtime_ns, default=None)
