"""Peak memory of a training step with dropout on against off, and of attention against the context length.

    python -m tests.benchmarks.memory

The peak is that of what is allocated on top of weights, gradients and the state of the optimizer, from the forward pass
to the end of the backward pass: on a GPU as its allocator counts it, on the CPU from the profiler's record of every
allocation. It is a count, not a timing, and does not change from run to run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from lightning_dropout.layers import AttentionDropout, ContextDropout
from tests.benchmarks.measure import Report, device_for, parse, recorded_events
from tests.benchmarks.peers import (
    FIVE_SITES,
    FOUR_SITES,
    GPT2_FORM,
    GPU,
    QUICK,
    Minimal,
    Shape,
    TorchEncoder,
    forward_backward,
    hugging_face_gpt2,
    ours,
)

CPU = Shape(context_length=256)
MIB = 2**20


def peak_bytes(step: Callable[[], object]) -> int:
    """The most that ``step`` has allocated and not freed at any one time."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    events = [event for event in recorded_events(recorded) if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    sizes: list[int] = [event.nbytes() for event in events]
    return max(accumulate(sizes, initial=0))


def settled_peak(model: nn.Module, step: Callable[[], object]) -> float:
    """In MiB, once everything is compiled and there are gradients to add to."""
    for _ in range(3):
        step()
    peak = peak_bytes(step) / MIB
    model.zero_grad()
    return peak


def models(shape: Shape) -> dict[str, nn.Module]:
    """Each with all of its dropout at the shape's rate."""
    return {
        "ours, dropout at emb, attn, attn_sublayer, ff_sublayer": ours(shape, *FOUR_SITES, **GPT2_FORM),
        "Hugging Face GPT-2, the same sites": hugging_face_gpt2(shape),
        "nanoGPT-shaped, the same sites": Minimal(shape),
        "ours, and at ff": ours(shape, *FIVE_SITES, **GPT2_FORM),
        "nn.TransformerEncoder, the same sites": TorchEncoder(shape),
    }


def training_steps(shape: Shape, device: torch.device, *, quick: bool) -> list[dict[str, Any]]:
    tokens, targets = shape.tokens().to(device), shape.tokens().to(device)
    peaks: dict[tuple[str, str], dict[str, float]] = {}
    for state, rate in (("off", 0.0), ("on", shape.rate)):
        for name, model in models(replace(shape, rate=rate)).items():
            step = forward_backward(model.to(device).train(), tokens, targets)
            peaks.setdefault((name, "eager"), {})[state] = settled_peak(model, step)
            torch.compiler.reset()
            model.compile(backend="aot_eager" if quick else "inductor")
            peaks.setdefault((name, "compiled"), {})[state] = settled_peak(model, step)
    return [
        {
            "model": name,
            "mode": mode,
            "off, MiB": peak["off"],
            "on, MiB": peak["on"],
            "on/off": peak["on"] / peak["off"],
        }
        for (name, mode), peak in peaks.items()
    ]


def attention(shape: Shape, lengths: tuple[int, ...], device: torch.device, *, quick: bool) -> list[dict[str, Any]]:
    """One causal attention, forward and backward, for one sequence."""
    rows = []
    for length in lengths:
        size = (1, shape.num_heads, length, shape.dim // shape.num_heads)
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        inputs = [torch.randn(size, device=device, dtype=dtype, requires_grad=True) for _ in range(3)]
        row: dict[str, Any] = {"context": length, "all inputs, MiB": sum(x.nbytes for x in inputs) / MIB}
        for name, layer, is_compiled in (
            ("off, MiB", AttentionDropout(0.0), False),
            ("on the weights, MiB", AttentionDropout(shape.rate), False),
            ("the same, compiled, MiB", AttentionDropout(shape.rate), True),
            ("on the context vectors, MiB", ContextDropout(shape.rate), False),
        ):
            torch.compiler.reset()
            if is_compiled:
                layer.compile(backend="aot_eager" if quick else "inductor")

            def step(layer: nn.Module = layer, inputs: list[Tensor] = inputs) -> None:
                layer(*inputs, is_causal=True).square().mean().backward()

            row[name] = settled_peak(layer, step)
        rows.append(row)
    return rows


def main() -> None:
    arguments = parse(__doc__, "memory")
    torch.manual_seed(0)
    device = device_for(arguments)
    shape = QUICK if arguments.quick else GPU if device.type == "cuda" else CPU
    lengths = (8, 16) if arguments.quick else (1024, 4096, 16384) if device.type == "cuda" else (256, 1024, 4096)
    report = Report(arguments, shape=vars(shape), device=device.type)
    report.add("a training step", training_steps(shape, device, quick=arguments.quick))
    report.add("attention", attention(shape, lengths, device, quick=arguments.quick))


if __name__ == "__main__":
    main()
