"""What a rate that changes every step does to ``torch.compile``: graphs, fallbacks to eager, and time.

    python -m tests.benchmarks.one_graph

Each model trains under a schedule that a loop sets on ``nn.Dropout.p``, with constant rates, and under the same
schedule written by a ``SiteWriter``, each in compiled code of its own. The last two then take turns.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._inductor.utils import fresh_cache

from lightning_dropout import SiteWriter, find_sites
from lightning_dropout.schedules import Linear
from tests.benchmarks.measure import Report, milliseconds, parse, ratio, rounds, take_turns
from tests.benchmarks.peers import (
    FOUR_SITES,
    GPT2_FORM,
    QUICK,
    Shape,
    TorchEncoder,
    hugging_face_bert,
    hugging_face_gpt2,
    ours,
)

SCHEDULE = Linear(0.3, 0.1)
#: The constant rate is the mean of the schedule: a step at 0.3 takes 2% longer than one at 0.1, whoever sets the rate.
SHAPE = Shape(num_layers=1, batch_size=8, rate=0.2)

Write = Callable[[float], None]


class CountingBackend:
    """A compiler that counts the graphs that it compiles, and how often they run."""

    def __init__(self, name: str) -> None:
        self.num_graphs = self.num_calls = 0
        self._compile = torch._dynamo.lookup_backend(name)

    def __call__(self, graph: Any, inputs: Any) -> Callable[..., Any]:
        compiled: Callable[..., Any] = self._compile(graph, inputs)
        self.num_graphs += 1

        def run(*args: Any) -> Any:
            self.num_calls += 1
            return compiled(*args)

        return run


class Training:
    """A compiled model with a way to write its rates, trained one step per call."""

    def __init__(self, model: nn.Module, tokens: Tensor, write: Write, *, backend: str, num_steps: int) -> None:
        self.backend = CountingBackend(backend)
        self.num_eager_steps = 0
        self._forward = torch.compile(model, backend=self.backend)
        self._optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        self._tokens, self._write, self._num_steps = tokens, write, num_steps
        self._step = self._calls_per_step = 0

    def __call__(self) -> None:
        self._write(SCHEDULE(self._step % self._num_steps / self._num_steps))
        calls_before = self.backend.num_calls
        self._forward(self._tokens).square().mean().backward()
        self._optimizer.step()
        self._optimizer.zero_grad()
        calls = self.backend.num_calls - calls_before
        self._calls_per_step = self._calls_per_step or calls
        self.num_eager_steps += calls < self._calls_per_step
        self._step += 1


def nothing(model: nn.Module, stack: ExitStack) -> Write:
    return lambda rate: None


def through_a_writer(model: nn.Module, stack: ExitStack) -> Write:
    active = [site.name for site in find_sites(model) if site.rate > 0]
    return stack.enter_context(SiteWriter(find_sites(model).match(*active), model=model)).set


def on_every_p(model: nn.Module, stack: ExitStack) -> Write:
    layers = [module for module in model.modules() if isinstance(module, nn.Dropout)]

    def write(rate: float) -> None:
        for layer in layers:
            layer.p = rate

    return write


METHODS = {"nn.Dropout.p set": on_every_p, "constant": nothing, "SiteWriter": through_a_writer}


def compare(
    build: Callable[[], nn.Module], tokens: Tensor, arguments: Namespace, stack: ExitStack
) -> list[dict[str, Any]]:
    num_steps = 3 if arguments.quick else 100
    backend = "aot_eager" if arguments.quick else "inductor"
    rows, compiled = [], {}
    for method, prepare in METHODS.items():
        model = build().train()
        training = Training(model, tokens, prepare(model, stack), backend=backend, num_steps=num_steps)
        with fresh_cache():
            start = time.perf_counter()
            for _ in range(num_steps):
                training()
            seconds = time.perf_counter() - start
        if method == "nn.Dropout.p set":
            torch.compiler.reset()  # the limit counts the graphs of all models that share code
        else:
            compiled[method] = training
        rows.append(
            {
                "rates": method,
                "graphs": training.backend.num_graphs,
                "steps in eager": training.num_eager_steps,
                f"{num_steps} steps, s": round(seconds, 2),
            }
        )
    turns = take_turns(compiled, num_rounds=rounds(arguments, 150), num_calls=2)
    for row in rows:
        if row["rates"] in turns:
            seconds_per_step = turns[row["rates"]]
            row |= {"step": milliseconds(seconds_per_step), "of constant": ratio(seconds_per_step, turns["constant"])}
    return rows


def main() -> None:
    arguments = parse(__doc__, "one_graph")
    shape = QUICK if arguments.quick else SHAPE
    models: dict[str, Callable[[], nn.Module]] = {
        "nn.TransformerEncoder": partial(TorchEncoder, shape),
        "our Transformer": partial(ours, shape, *FOUR_SITES, **GPT2_FORM),
        "Hugging Face GPT-2": partial(hugging_face_gpt2, shape),
        "Hugging Face BERT": partial(hugging_face_bert, shape),
    }
    torch.manual_seed(0)
    report = Report(arguments, shape=vars(shape), schedule=repr(SCHEDULE))
    tokens = shape.tokens()
    for name, build in list(models.items())[: 1 if arguments.quick else None]:
        with ExitStack() as stack:
            report.add(name, compare(build, tokens, arguments, stack))


if __name__ == "__main__":
    main()
