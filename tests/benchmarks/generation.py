"""Text generation with a cache: ours against Hugging Face's ``generate``, with the same weights.

    python -m tests.benchmarks.generation

Both read one checkpoint folder and choose the likeliest token; that they choose the same ones is checked first. Tokens
per second count what is generated, over the whole call: reading the prompt and then one token after the other.
"""

from __future__ import annotations

import tempfile
from argparse import Namespace
from typing import Any

import torch
from torch import Tensor

import lightning_dropout as ld
from tests.benchmarks.measure import Figure, Report, device_for, parse, ratio, rounds, take_turns
from tests.benchmarks.peers import GPT2_FORM, Shape, ours

SHAPES = {
    "4 layers, width 128": Shape(context_length=1024, vocab_size=1024),
    "6 layers, width 384": Shape(num_layers=6, num_heads=6, dim=384, context_length=1024, vocab_size=1024),
}
QUICK = {"1 layer, width 16": Shape(num_layers=1, num_heads=2, dim=16, context_length=32, vocab_size=11)}


def twins(network: ld.Transformer, form: str) -> tuple[ld.Transformer, Any]:
    """Our network, and Hugging Face's with its weights, both in eval mode."""
    from transformers import GPT2LMHeadModel, LlamaForCausalLM

    twin_class = GPT2LMHeadModel if form == "GPT-2" else LlamaForCausalLM
    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(folder)
        twin = twin_class.from_pretrained(folder)
    twin.generation_config.eos_token_id = None
    twin.generation_config.pad_token_id = 0
    twin.eval()
    return network.eval(), twin


def compare(shape: Shape, form: str, arguments: Namespace, device: torch.device) -> list[dict[str, Any]]:
    options = {**GPT2_FORM, "activation": "gelu_tanh"} if form == "GPT-2" else {}
    network, twin = twins(ours(shape, **options).to(device), form)
    twin = twin.to(device)
    num_new = 4 if arguments.quick else 64
    rows = []
    for batch_size in (1, 16):
        for prompt_length in (4, 8) if arguments.quick else (16, 512):
            prompts = torch.randint(shape.vocab_size, (batch_size, prompt_length), device=device)

            def by_us(prompts: Tensor = prompts) -> Tensor:
                return network.generate(prompts, num_new)

            def by_hugging_face(prompts: Tensor = prompts) -> Tensor:
                text: Tensor = twin.generate(
                    prompts, max_new_tokens=num_new, do_sample=False, attention_mask=torch.ones_like(prompts)
                )
                return text

            is_equal = bool(by_us().equal(by_hugging_face()))
            contenders = {"ours": by_us, "Hugging Face": by_hugging_face}
            seconds = take_turns(contenders, num_rounds=rounds(arguments, 9 if batch_size == 1 else 5))
            speeds = {name: [batch_size * num_new / s for s in values] for name, values in seconds.items()}
            rows.append(
                {
                    "form": form,
                    "batch": batch_size,
                    "prompt": prompt_length,
                    "ours": Figure.of(speeds["ours"], "tokens/s"),
                    "Hugging Face": Figure.of(speeds["Hugging Face"], "tokens/s"),
                    "ours is faster by": ratio(seconds["Hugging Face"], seconds["ours"]),
                    "same tokens": is_equal,
                }
            )
    return rows


def main() -> None:
    arguments = parse(__doc__, "generation")
    device = device_for(arguments)
    torch.manual_seed(0)
    report = Report(arguments, device=device.type)
    for name, shape in (QUICK if arguments.quick else SHAPES).items():
        report.add(name, [row for form in ("GPT-2", "Llama") for row in compare(shape, form, arguments, device)])


if __name__ == "__main__":
    main()
