"""Training throughput at equal shapes and equal dropout: ours against the peers, eager and compiled.

    python -m tests.benchmarks.throughput

Each group trains one architecture with the same dropout sites at the same rate in every contender; a step is forward,
loss, backward and AdamW. On the CPU in fp32; on a GPU at the size of GPT-2 small under bf16 autocast, with the share of
the device's peak. In turns, so that ratios are taken within a round.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

import lightning_dropout as ld
from tests.benchmarks.measure import Figure, Report, device_for, milliseconds, parse, ratio, rounds, take_turns
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
    hugging_face_llama,
    ours,
    x_transformers_decoder,
)

CPU = Shape()
#: Dense bf16 FLOP/s that the makers give.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L4": 121e12}

Builders = Mapping[str, Callable[[], nn.Module]]


def language_models(shape: Shape) -> dict[str, Builders]:
    gpt2 = partial(ours, shape, **GPT2_FORM)
    return {
        "GPT-2 form, dropout at emb, attn, attn_sublayer, ff_sublayer": {
            "ours": partial(gpt2, *FOUR_SITES),
            "nanoGPT-shaped": partial(Minimal, shape),
            "Hugging Face GPT-2": partial(hugging_face_gpt2, shape),
        },
        "GPT-2 form, dropout at ff as well": {
            "ours": partial(gpt2, *FIVE_SITES),
            "ours, and at layer": partial(gpt2, *FIVE_SITES, "layer"),
            "nn.TransformerEncoder": partial(TorchEncoder, shape),
            "x-transformers": partial(x_transformers_decoder, shape),
        },
        "Llama form, dropout at attn": {
            "ours": partial(ours, shape, "attn"),
            "Hugging Face Llama": partial(hugging_face_llama, shape),
        },
    }


def plain_mlp(sizes: tuple[int, ...], rate: float) -> nn.Module:
    layers: list[nn.Module] = [nn.Dropout(rate)]
    for wide, narrow in pairwise(sizes[:-1]):
        layers += [nn.Linear(wide, narrow), nn.ReLU(), nn.Dropout(rate)]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


def plain_cnn(widths: tuple[int, ...], num_outputs: int, rate: float) -> nn.Module:
    layers: list[nn.Module] = []
    for wide, width in pairwise((1, *widths)):
        stride = 1 if wide in (1, width) else 2
        conv = nn.Conv2d(wide, width, 3, stride=stride, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout2d(rate)]
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(rate))
    return nn.Sequential(*layers, *pool, nn.Linear(widths[-1], num_outputs))


def classifiers(rate: float) -> dict[str, tuple[Builders, tuple[int, ...]]]:
    """The contenders, and the shape of a batch."""
    mlp = partial(ld.MLP, 784, 10, widths=(512, 512), dropout=ld.MLPDropout(rate, rate))
    cnn = partial(ld.CNN, 1, 10, widths=(32, 64, 128), dropout=ld.CNNDropout(channel=rate, head=rate))
    return {
        "MLP, 784-512-512-10": (
            {"ours": mlp, "plain torch": partial(plain_mlp, (784, 512, 512, 10), rate)},
            (128, 784),
        ),
        "CNN, 32-64-128 on 28x28": (
            {"ours": cnn, "plain torch": partial(plain_cnn, (32, 64, 128), 10, rate)},
            (32, 1, 28, 28),
        ),
    }


def training_step(model: nn.Module, inputs: Tensor, targets: Tensor, *, compiled: bool) -> Callable[[], None]:
    differentiate = forward_backward(torch.compile(model) if compiled else model, inputs, targets)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step() -> None:
        differentiate()
        optimizer.step()
        optimizer.zero_grad()

    return step


def compare(
    builders: Builders, inputs: Tensor, targets: Tensor, arguments: Namespace, flops: Callable[[nn.Module], float]
) -> list[dict[str, Any]]:
    torch.compiler.reset()
    steps, models = {}, {}
    for compiled in (False,) if arguments.eager else (False, True):
        for name, build in builders.items():
            model = build().to(inputs.device).train()
            mode = f"{name} / {'compiled' if compiled else 'eager'}"
            steps[mode], models[mode] = training_step(model, inputs, targets, compiled=compiled), model
            for _ in range(3):
                steps[mode]()
    seconds = take_turns(steps, num_rounds=rounds(arguments, 25))
    rows = []
    for mode, model in models.items():
        name, how = mode.split(" / ")
        rates = [targets.numel() / value for value in seconds[mode]]
        row: dict[str, Any] = {
            "model": name,
            "mode": how,
            "step": milliseconds(seconds[mode]),
            "a second": Figure.of(rates, "tokens" if targets.dim() == 2 else "samples"),
            "time against ours": ratio(seconds[mode], seconds[f"ours / {how}"]),
        }
        if peak := _peak(inputs.device):
            row["share of peak"] = Figure.of([flops(model) / value / peak for value in seconds[mode]])
        rows.append(row)
    return rows


def _peak(device: torch.device) -> float | None:
    if device.type != "cuda":
        return None
    return next((peak for name, peak in PEAKS.items() if name in torch.cuda.get_device_name(device)), None)


def main() -> None:
    arguments = parse(__doc__, "throughput", eager={"action": "store_true", "help": "compile nothing"})
    device = device_for(arguments)
    shape = QUICK if arguments.quick else GPU if device.type == "cuda" else CPU
    report = Report(arguments, shape=vars(shape), device=device.type)
    torch.manual_seed(0)
    tokens, targets = shape.tokens().to(device), shape.tokens().to(device)

    def flops(model: nn.Module) -> float:
        """Of one step: 6 per parameter and token, and those of causal attention."""
        num_parameters = sum(parameter.numel() for parameter in model.parameters())
        attention = 6 * shape.num_layers * shape.dim * shape.context_length
        return shape.num_tokens * (6 * num_parameters + attention)

    for title, builders in language_models(shape).items():
        report.add(title, compare(builders, tokens, targets, arguments, flops))
    for title, (builders, size) in classifiers(shape.rate).items():
        inputs = torch.randn(size, device=device)
        labels = torch.randint(10, size[:1], device=device)
        report.add(title, compare(builders, inputs, labels, arguments, lambda model: 0.0))


if __name__ == "__main__":
    main()
