"""What a finished run says: how good it got, what it writes like, where everything is, and what to type next."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger

from lightning_dropout.callbacks import MCDropout
from lightning_dropout.cli.certainty import certainty_rows
from lightning_dropout.data import TextData
from lightning_dropout.models import Transformer
from lightning_dropout.modules import Classifier, LanguageModel

__all__ = ["load_best", "print_closing"]

_NUM_PROMPT, _NUM_NEW = 24, 300


def print_closing(
    trainer: Trainer, data: LightningDataModule | None, *, folder: Path, export: Path | None, next_command: str | None
) -> None:
    """Print the summary of a finished fit, with what there is of it, on one rank; the weights are the best already."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)  # a wrapped command cannot be copied
    console.rule("done")
    best = _best(trainer)
    rows = [*_figures(trainer, best, folder), *_files(best, folder, export), *_wandb(trainer)]
    if next_command is None and best is not None and (folder / "config.yaml").exists():
        next_command = f"lightning-dropout validate --config {_short(folder)}/config.yaml --ckpt_path {_short(best)}"
    if next_command is not None:
        rows.append(("next", next_command))
    for label, value in rows:
        console.print(Text(f"{label:<14}", style="bold"), Text(value), sep="")
    module = trainer.lightning_module
    if isinstance(module, LanguageModel) and isinstance(module.network, Transformer) and isinstance(data, TextData):
        prompt, continuation = _sample(module, data)
        console.rule("sample")
        console.print(Text(prompt, style="dim"), Text(continuation), sep="")
    sampling = [callback for callback in trainer.callbacks if isinstance(callback, MCDropout)]  # type: ignore[attr-defined]
    if sampling and isinstance(module, Classifier) and data is not None:
        console.rule("uncertainty")
        for label, value in certainty_rows(module, data, sampling[0]):
            console.print(Text(f"{label:<32}", style="bold"), Text(value), sep="")


def load_best(trainer: Trainer) -> None:
    """Give the module the best weights that the run wrote, if it wrote any."""
    best = _best(trainer)
    if best is not None:
        checkpoint = torch.load(best, map_location="cpu", weights_only=True)
        trainer.lightning_module.load_state_dict(checkpoint["state_dict"])


def _best(trainer: Trainer) -> str | None:
    """The best checkpoint that this run wrote."""
    checkpoint = trainer.checkpoint_callback
    if isinstance(checkpoint, ModelCheckpoint) and checkpoint.best_model_score is not None:
        return checkpoint.best_model_path
    return None


def _sample(module: LanguageModel, data: TextData) -> tuple[str, str]:
    """The beginning of the validation text, and how the module continues it."""
    prompt = next(iter(data.val_dataloader()))[0][0, :_NUM_PROMPT].to(module.device)
    generator = torch.Generator(module.device).manual_seed(0)
    ids = module.generate(prompt, _NUM_NEW, temperature=0.8, generator=generator)
    new = ids[len(prompt) :].cpu()
    return data.decode(prompt.cpu()), data.decode(new[new < data.vocab_size])  # a vocabulary may be padded


def _figures(trainer: Trainer, best: str | None, folder: Path) -> Iterator[tuple[str, str]]:
    if best is not None:
        checkpoint = trainer.checkpoint_callback
        assert isinstance(checkpoint, ModelCheckpoint)
        assert checkpoint.best_model_score is not None
        monitor = str(checkpoint.monitor)
        yield f"best {monitor}", f"{float(checkpoint.best_model_score):.4f}"
        for name in (monitor, "overfit/gap_loss"):
            curve = _curve(folder / "metrics.csv", name)
            if len(curve) > 1:
                yield name.rpartition("/")[2], " ".join(f"{value:.3f}" for value in curve)
    yield "steps", str(trainer.global_step)


def _curve(path: Path, name: str) -> list[float]:
    """At most ten points of a logged curve, the first and the last among them."""
    if not path.exists():
        return []
    with path.open() as file:
        values = [float(row[name]) for row in csv.DictReader(file) if row.get(name)]
    last = len(values) - 1
    return [values[i] for i in sorted({round(last * tenth / 9) for tenth in range(10)})] if values else []


def _files(best: str | None, folder: Path, export: Path | None) -> Iterator[tuple[str, str]]:
    if best is not None:
        yield "checkpoint", _short(best)
    if folder.exists():
        yield "folder", _short(folder)
    if export is not None:
        yield "exported", _short(export)
    if (folder / "overfitting.png").exists():
        yield "picture", _short(folder / "overfitting.png")


def _wandb(trainer: Trainer) -> Iterator[tuple[str, str]]:
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            if logger.experiment.offline:
                path = _short(Path(logger.experiment.dir).parent)
                yield "W&B, here", f"wandb leet {path}"
                yield "W&B, online", f"wandb sync {path}"
            else:
                yield "W&B", str(logger.experiment.url)


def _short(path: str | Path) -> str:
    """As short as it can be typed."""
    return min(os.path.relpath(path), os.path.abspath(path), key=len)
