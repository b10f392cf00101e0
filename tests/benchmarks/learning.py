"""Character models of tiny Shakespeare at nanoGPT's two published shapes.

    python -m tests.benchmarks.learning tinyshakespeare.txt

Parameters (within 1%), steps, batch size and context are nanoGPT's (``config/train_shakespeare_char.py``, and the
smaller shape of its README for CPUs). The loss is the mean over the whole validation split, the last tenth of the text,
read in windows without overlap; at the larger shape, as there, the best on the way counts.

Architecture and recipe stand in rows apart from the schedules: the forms of GPT-2 and Llama, each with nanoGPT's
learning rate and with the one that was best for it in ``--develop``. That mode trains on the first nine tenths of the
training split and compares learning rates on the last, with a seed that is not among those reported: the validation
split is not looked at. The rest of the recipe is nanoGPT's: AdamW with betas .9 and .99, weight decay .1, 100 steps of
warmup, a cosine down to a tenth, and gradients clipped at 1.

The rate of the schedules is fixed beforehand: 0.1 at the small shape, which sees each character about 1.5 times, and
nanoGPT's 0.2 at the large one, on the embeddings, the attention weights and both sublayers. The adaptive controller
starts there and reads the validation split as early stopping would; nothing else reads it before the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from rich.table import Table
from torch import Tensor, nn

from lightning_dropout import LanguageModel, TextData, Transformer, TransformerDropout
from lightning_dropout.callbacks import AdaptiveDropout, DropoutScheduler, OverfittingMonitor
from lightning_dropout.schedules import Curriculum, Early, Late
from tests.benchmarks.runs import Figures, Results, Run, complete, finish, parser, table

GPT2: dict[str, Any] = {
    "position": "learned",
    "norm": "layer",
    "activation": "gelu",
    "tie_weights": True,
}
NANOGPT_LR = 1e-3
DEVELOPMENT_SEED = 100
DEVELOPMENT_LRS = (1e-3, 2e-3, 3e-3)


@dataclass(frozen=True)
class Shape:
    num_layers: int
    num_heads: int
    dim: int
    context_length: int
    batch_size: int
    num_steps: int
    evaluate_every: int
    rate: float
    num_val_batches: int = 40  # of each validation that the adaptive controller reads


SHAPES = {
    "cpu": Shape(4, 4, 128, 64, 12, num_steps=2000, evaluate_every=2000, rate=0.1),
    "gpu": Shape(6, 6, 384, 256, 64, num_steps=5000, evaluate_every=250, rate=0.2),
    "quick": Shape(1, 2, 16, 16, 4, num_steps=20, evaluate_every=10, rate=0.1, num_val_batches=2),
}

#: Of a method: the form, and the learning rate.
ARCHITECTURES = {
    "GPT-2 form, nanoGPT's learning rate": (GPT2, NANOGPT_LR),
    "GPT-2 form": (GPT2, 3e-3),
    "Llama form, nanoGPT's learning rate": ({}, NANOGPT_LR),
    "Llama form": ({}, 2e-3),
}
SCHEDULES = ("constant", "early", "late", "curriculum", "adaptive")
NONE = "Llama form"


class SplitLoss(Callback):
    """Measures the loss of a whole split, with dropout off."""

    def __init__(self, tokens: Tensor, shape: Shape) -> None:
        self.tokens, self.shape = tokens, shape
        self.losses: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % self.shape.evaluate_every == 0:
            network = pl_module.network
            assert isinstance(network, nn.Module)
            network.eval()
            self.losses.append(split_loss(network, self.tokens.to(pl_module.device), self.shape.context_length))
            network.train()


@torch.no_grad()
def split_loss(network: nn.Module, tokens: Tensor, context_length: int) -> float:
    """Mean loss in nats of all tokens but the first, in windows without overlap, the last one shorter."""
    inputs, targets = tokens[:-1], tokens[1:]
    whole = len(targets) // context_length * context_length
    windows = (torch.split(part[:whole].view(-1, context_length), 64) for part in (inputs, targets))
    batches = list(zip(*windows, strict=True))
    if whole < len(targets):
        batches.append((inputs[None, whole:], targets[None, whole:]))
    total = torch.zeros((), device=tokens.device)
    for x, y in batches:
        total += F.cross_entropy(network(x).float().flatten(0, 1), y.flatten(), reduction="sum")
    return total.item() / len(targets)


def callbacks(method: str, shape: Shape) -> list[Callback]:
    if method == "adaptive":
        return [OverfittingMonitor(plot=False), AdaptiveDropout()]
    schedules = {
        "early": Early(shape.rate, until=0.5),
        "late": Late(shape.rate, after=0.5),
        "curriculum": Curriculum(shape.rate),
    }
    return [DropoutScheduler(schedules[method])] if method in schedules else []


def build(method: str, vocab_size: int, shape: Shape, lr: float | None = None) -> LanguageModel:
    form, best_lr = ARCHITECTURES.get(method, ARCHITECTURES[NONE])
    rate = 0.0 if method in ARCHITECTURES else shape.rate
    network = Transformer(
        vocab_size,
        num_layers=shape.num_layers,
        num_heads=shape.num_heads,
        dim=shape.dim,
        context_length=shape.context_length,
        dropout=TransformerDropout(emb=rate, attn=rate, attn_sublayer=rate, ff_sublayer=rate),
        **form,
    )
    return LanguageModel(network, lr=lr or best_lr, betas=(0.9, 0.99), warmup=100)


def train(
    method: str, seed: int, *, file: Path, shape: Shape, lr: float | None = None, max_chars: int | None = None
) -> Figures:
    seed_everything(seed, verbose=False)
    data = TextData(
        str(file),
        context_length=shape.context_length,
        batch_size=shape.batch_size,
        val_fraction=0.1,
        max_chars=max_chars,
        seed=seed,
    )
    model = build(method, data.vocab_size, shape, lr)
    text = file.read_text(encoding="utf-8")[:max_chars]
    split = SplitLoss(data.encode(text[int(len(text) * (1.0 - data.val_fraction)) :]), shape)
    is_adaptive = method == "adaptive"
    trainer = Trainer(
        accelerator="auto",
        devices=1,
        precision="bf16-mixed" if torch.cuda.is_available() else "32-true",
        max_steps=shape.num_steps,
        val_check_interval=shape.num_steps // 20 if is_adaptive else None,
        check_val_every_n_epoch=None if is_adaptive else 1,
        limit_val_batches=shape.num_val_batches if is_adaptive else 0,
        gradient_clip_val=1.0,
        callbacks=[*callbacks(method, shape), split],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, data)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"loss": min(split.losses), "final loss": split.losses[-1], "parameters": num_parameters}


def measure(run: Run, *, file: Path) -> Figures:
    return train(run.method, run.seed, file=file, shape=SHAPES[run.task])


def measure_lr(run: Run, *, file: Path, shape: Shape) -> Figures:
    """A form and a learning rate, on the training split alone."""
    form, lr = run.method.split(" at ")
    num_train = int(len(file.read_text(encoding="utf-8")) * 0.9)
    return train(form, run.seed, file=file, shape=shape, lr=float(lr), max_chars=num_train)


def tables(results: Results, shape: str) -> Iterator[Table]:
    """Architectures apart from schedules, of what was run."""
    figures = ["loss", "final loss"] if shape == "gpu" else ["loss"]
    done = {run.method for run in results if run.task == shape}
    for title, rows in (("architectures, no dropout", ARCHITECTURES), ("schedules", (NONE, *SCHEDULES))):
        methods = [row for row in rows if row in done]
        if methods:
            title = f"{shape} shape: {title}"
            yield table(results, shape, methods, figures=figures, baseline=methods[0], title=title)


def main(argv: list[str] | None = None) -> None:
    arguments = parser(__doc__, "learning")
    arguments.add_argument("file", type=Path, help="the text")
    arguments.add_argument("--shape", choices=SHAPES, default="cpu")
    arguments.add_argument("--methods", nargs="+", choices=[*ARCHITECTURES, *SCHEDULES], metavar="METHOD")
    arguments.add_argument("--develop", action="store_true", help="compare learning rates on the training split")
    options = arguments.parse_args(argv)
    shape = "quick" if options.quick else options.shape
    if options.develop:
        methods = [f"{form} at {lr:g}" for form in ("Llama form", "GPT-2 form") for lr in DEVELOPMENT_LRS]
        runs = [Run(f"{shape}, develop", method, DEVELOPMENT_SEED) for method in methods]
        measured = partial(measure_lr, file=options.file, shape=SHAPES[shape])
        results = complete(runs, measured, path=options.runs, num_workers=options.workers)
        finish(
            options,
            results,
            table(results, runs[0].task, methods, figures=["loss"], baseline=methods[0], title="learning rates"),
        )
        return
    methods = options.methods or [*ARCHITECTURES, *SCHEDULES]
    runs = [Run(shape, method, seed) for seed in range(options.seeds) for method in methods]
    results = complete(runs, partial(measure, file=options.file), path=options.runs, num_workers=options.workers)
    finish(options, results, *tables(results, shape))


if __name__ == "__main__":
    main()
