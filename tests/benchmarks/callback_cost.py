"""What all callbacks together cost: training steps, validations, and host work at many sites.

    python -m tests.benchmarks.callback_cost

No callbacks, as many that do nothing, and ours take turns *within one fit*, of training steps of about 1, 5 and 50 ms,
so that model, memory and loader are the same. Those that do nothing are empty, or hollow: with a hook where ours have
one. The first steps, which the mode guard observes, have fits of their own. Then a model of 10 to 10,000 sites is
trained, and what the hooks of the callbacks take is measured alone, with the tensor operations that they run.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import random
import statistics
import tempfile
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from lightning_dropout.callbacks import AdaptiveDropout, DropoutScheduler, RankSeed, default_callbacks
from lightning_dropout.layers import Dropout
from lightning_dropout.schedules import Linear
from tests.benchmarks.measure import Figure, Report, milliseconds, parse, ratio, rounds

#: Of the first batches the guard observes two; a third may compare ranks.
NUM_FIRST = 3
HOOKS = ("on_train_batch_start", "on_train_batch_end")
STEP_HOOKS = (
    *HOOKS,
    *("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step"),
)
#: Width and batch size for steps of about so many milliseconds.
STEPS = {"1 ms": (32, 16), "5 ms": (384, 64), "50 ms": (1024, 192)}
#: Turns change so fast that the machine is the same for all. Over a group of them all have about as many of the steps
#: at which values are logged: every 50th, so a turn of 10 steps and one at either end has none or one.
STEPS_PER_TURN, TURNS_PER_GROUP = 10, 25
NUM_GROUPS = {"1 ms": 20, "5 ms": 60, "50 ms": 2}


class Net(LightningModule):
    """Two stacks of layers with dropout, for a schedule and for a controller; it logs what most modules log."""

    def __init__(self, stem: nn.Module, scheduled: nn.Module, adapted: nn.Module) -> None:
        super().__init__()
        self.stem, self.scheduled, self.adapted = stem, scheduled, adapted
        self.num_inputs = next(stem.parameters()).shape[1]
        self.after_batch: Callable[[LightningModule, int], None] | None = None

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self._loss(*batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self._loss(*batch))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:  # comes after those of callbacks
        if self.after_batch is not None:
            self.after_batch(self, batch_idx)

    def _loss(self, x: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(self.adapted(self.scheduled(self.stem(x))), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), fused=True)


def hidden_layers(width: int) -> Net:
    def stack() -> nn.Sequential:
        blocks = [nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.1)) for _ in range(2)]
        return nn.Sequential(*blocks)

    return Net(nn.Linear(width, width), stack(), stack())


def many_sites(num_sites: int, layer: Callable[[float], nn.Module]) -> Net:
    """Dropout after dropout, at a rate so low that something is left."""

    def stack() -> nn.Sequential:
        return nn.Sequential(*(layer(1e-4) for _ in range(num_sites // 2)))

    return Net(nn.Linear(4, 4), stack(), stack())


def all_callbacks() -> list[Callback]:
    """All that act in a fit: a controller for some sites, a schedule for others."""
    return [
        AdaptiveDropout(sites="adapted*"),
        DropoutScheduler(Linear(0.11, 0.09), sites="scheduled*"),  # on average the rate that is there without it
        *default_callbacks(),
        RankSeed(0),
    ]


def empty_callbacks() -> list[Callback]:
    """As many that do nothing: what Lightning itself takes to call them."""
    return [type(type(callback).__name__, (Callback,), {})() for callback in all_callbacks()]


def hollow_callbacks() -> list[Callback]:
    """As many that have a hook where one of ours has one beyond the first steps, and nothing in it."""
    callbacks = all_callbacks()
    fit(hidden_layers(8), 2, NUM_FIRST + 1, callbacks, clock=Clock())
    hollow = []
    for callback in callbacks:
        hooks = {name: None if getattr(callback, name) is None else _nothing for name in STEP_HOOKS}
        hollow.append(type(type(callback).__name__, (Callback,), hooks)())
    return hollow


def _nothing(*_: Any) -> None:
    pass


CALLBACKS: dict[str, Callable[[], list[Callback]]] = {"none": list, "all": all_callbacks}


class Clock(Callback):
    """Notes when each training batch starts, and how long validations take."""

    def __init__(self) -> None:
        self.starts: list[float] = []
        self.validations: list[float] = []
        self._validation_start: float | None = None

    def on_train_batch_start(self, *_: Any) -> None:
        self.starts.append(time.perf_counter())

    def on_validation_start(self, *_: Any) -> None:
        self._validation_start = time.perf_counter()

    def on_train_epoch_end(self, *_: Any) -> None:  # comes after the validation and all that callbacks do at its end
        if self._validation_start is not None:
            self.validations.append(time.perf_counter() - self._validation_start)

    @property
    def steps(self) -> list[float]:
        return [after - before for before, after in itertools.pairwise(self.starts)]


class HookTimer:
    """Adds up what the hooks of training steps take while it is entered, and counts the tensor operations in them."""

    def __init__(self, callbacks: list[Callback]) -> None:
        self.seconds: list[float] = []
        self.operations: list[Counter[str]] = []
        self._classes = [type(callback) for callback in callbacks]

    def __enter__(self) -> HookTimer:
        self._undo = contextlib.ExitStack()
        for cls in self._classes:
            for name in set(HOOKS) & set(vars(cls)):
                self._undo.enter_context(patch.object(cls, name, self._timed(vars(cls)[name])))
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _timed(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(hook)
        def timed(callback: Callback, trainer: Trainer, *args: Any) -> Any:
            step = trainer.fit_loop.total_batch_idx
            while len(self.seconds) <= step:
                self.seconds.append(0.0)
                self.operations.append(Counter())
            counts = step % 2 == 1  # counting costs time, so it has steps of its own
            with _Operations(self.operations[step]) if counts else contextlib.nullcontext():
                bytearray(1 << 12)  # malloc tidies up after a step at the next request of 1 kB, whoever makes it
                start = time.perf_counter()
                hook(callback, trainer, *args)
                self.seconds[step] += time.perf_counter() - start

        return timed


class _Operations(TorchDispatchMode):
    def __init__(self, counts: Counter[str]) -> None:
        super().__init__()
        self.counts = counts

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[func.__name__] += 1
        return func(*args, **(kwargs or {}))


def fit(
    model: Net,
    batch_size: int,
    num_steps: int,
    callbacks: list[Callback],
    *,
    clock: Callback,
    num_validations: int = 0,
    strategy: str = "auto",
) -> None:
    num_ranks = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        trainer = Trainer(
            accelerator="auto",
            devices=num_ranks,
            strategy=strategy,
            max_epochs=num_validations or 1,
            limit_val_batches=20 if num_validations else 0,
            logger=CSVLogger(folder),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            callbacks=[clock, *callbacks],
        )
        x, y = torch.randn(2, batch_size, model.num_inputs)
        batches: Any = [(x, y)] * num_ranks * num_steps
        data = DataLoader(batches, batch_size=None)
        trainer.fit(model, data, data if num_validations else None)


class Turns(Callback):
    """Lets contenders take turns within one fit, each for so many steps and one at either end that is not measured.

    Callbacks that drive rates leave and enter as they do at the end and at the start of a fit.
    """

    def __init__(self, contenders: dict[str, list[Callback]], *, num_turns: int, num_steps: int) -> None:
        order = [random.Random(turn).sample(list(contenders), len(contenders)) for turn in range(num_turns)]
        self.order = ["all six", *itertools.chain(*order)]  # the first time does not count: the guard observes
        self.contenders = contenders
        self.num_steps = num_steps
        self._starts: list[float] = []

    @property
    def num_batches(self) -> int:
        return len(self.order) * (self.num_steps + 2)

    def on_train_batch_start(self, *_: Any) -> None:
        self._starts.append(time.perf_counter())

    def after_batch(self, module: LightningModule, batch_idx: int) -> None:
        """Change the callbacks of the trainer where the turn of one contender ends."""
        turn, step = divmod(batch_idx + 1, self.num_steps + 2)
        if step > 0 or turn == len(self.order):
            return
        trainer: Any = module.trainer
        for callback in _drivers(trainer.callbacks):
            callback.teardown(trainer, module, "fit")
        trainer.callbacks[1:] = self.contenders[self.order[turn]]
        for callback in _drivers(trainer.callbacks):
            callback.on_fit_start(trainer, module)
            callback.on_train_start(trainer, module)

    def seconds(self) -> dict[str, list[float]]:
        """Seconds of a step on average, one number for every group of turns."""
        found: dict[str, list[float]] = {which: [] for which in self.contenders}
        for turn, which in enumerate(self.order[1:], start=1):
            first = turn * (self.num_steps + 2) + 1
            found[which].append((self._starts[first + self.num_steps] - self._starts[first]) / self.num_steps)
        return {which: [statistics.fmean(group) for group in _in_groups(seconds)] for which, seconds in found.items()}


def _in_groups(seconds: list[float]) -> list[list[float]]:
    return [seconds[i : i + TURNS_PER_GROUP] for i in range(0, len(seconds), TURNS_PER_GROUP)]


def _drivers(callbacks: list[Callback]) -> list[Callback]:
    return [callback for callback in callbacks if isinstance(callback, DropoutScheduler | AdaptiveDropout)]


def step_times(arguments: Namespace) -> list[dict[str, Any]]:
    rows = []
    empty, hollow = empty_callbacks(), hollow_callbacks()
    for name, (width, batch_size) in STEPS.items():
        every = all_callbacks()
        turns = Turns(
            {
                "none": [],
                "six empty": empty,
                "six hollow": hollow,
                "all but AdaptiveDropout": every[1:],
                "all six": every,
            },
            num_turns=rounds(arguments, NUM_GROUPS[name] * TURNS_PER_GROUP),
            num_steps=4 if arguments.quick else STEPS_PER_TURN,
        )
        model = hidden_layers(width)
        model.after_batch = turns.after_batch
        fit(model, batch_size, turns.num_batches, every, clock=turns)
        seconds = turns.seconds()
        for which, times in seconds.items():
            more = [mine - without for mine, without in zip(times, seconds["none"], strict=True)]
            rows.append(
                {
                    "steps of about": name,
                    "callbacks": which,
                    "step": milliseconds(times),
                    "of none": ratio(times, seconds["none"]),
                    "more than none": Figure.of([1e6 * value for value in more], "us"),
                }
            )
    return rows


def first_steps(arguments: Namespace) -> list[dict[str, Any]]:
    """The guard observes the first batches, and ranks are compared."""
    rows = []
    for name, (width, batch_size) in STEPS.items():
        sums: dict[str, list[float]] = {which: [] for which in ("none", "all")}
        for _ in range(rounds(arguments, 10)):
            for which, seconds in sums.items():
                clock = Clock()
                fit(hidden_layers(width), batch_size, NUM_FIRST + 1, CALLBACKS[which](), clock=clock)
                seconds.append(sum(clock.steps[:NUM_FIRST]))
        rows += [
            {"steps of about": name, "callbacks": which, f"first {NUM_FIRST} steps": milliseconds(seconds)}
            for which, seconds in sums.items()
        ]
    return rows


def validations(arguments: Namespace) -> list[dict[str, Any]]:
    """The monitor looks at training batches in every validation; the first includes what is done once."""
    width, batch_size = STEPS["5 ms"]
    rows = []
    for which in ("none", "all"):
        clock = Clock()
        num_validations = rounds(arguments, 10)
        fit(hidden_layers(width), batch_size, 20, CALLBACKS[which](), clock=clock, num_validations=num_validations)
        rows.append({"callbacks": which, "20 batches of validation": milliseconds(clock.validations)})
    return rows


def host_times(arguments: Namespace) -> list[dict[str, Any]]:
    rows = []
    for num_sites in (10, 100) if arguments.quick else (10, 1_000, 10_000):
        for layer in (Dropout, nn.Dropout):
            callbacks = all_callbacks()
            with HookTimer(callbacks) as timer:
                fit(many_sites(num_sites, layer), 2, 12 if arguments.quick else 40, callbacks, clock=Clock())
            timed, counted = timer.seconds[NUM_FIRST + 1 :: 2], timer.operations[NUM_FIRST::2]
            rows.append(
                {
                    "sites": num_sites,
                    "layers": "ours" if layer is Dropout else "nn.Dropout",
                    "hooks a step": Figure.of([1e6 * seconds for seconds in timed], "us"),
                    "tensor operations a step": max(sum(counts.values()) for counts in counted),
                    "of them writes to rates": max(_num_writes(counts) for counts in counted),
                }
            )
    return rows


def _num_writes(counts: Counter[str]) -> int:
    return sum(number for name, number in counts.items() if name.startswith(("fill_", "copy_", "_to_copy")))


def main() -> None:
    arguments = parse(__doc__, "callback_cost")
    torch.manual_seed(0)
    report = Report(arguments, callbacks=[type(callback).__name__ for callback in all_callbacks()])
    report.add("training steps", step_times(arguments))
    report.add("first steps", first_steps(arguments))
    report.add("validations", validations(arguments))
    report.add("host work", host_times(arguments))


if __name__ == "__main__":
    main()
