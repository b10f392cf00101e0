"""``generate``: a text from a trained model, as it is written."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_dropout.cli.arguments import Parser, number, whole_number
from lightning_dropout.cli.errors import UserError, one_line

if TYPE_CHECKING:
    from lightning_dropout.models import TextGenerator

__all__ = ["generate"]


def generate(arguments: Sequence[str]) -> int:
    """Continue a prompt or talk, on stdout, token by token.

    Raises:
        UserError: If there is no model that writes text, or an option is out of range.
    """
    options = _parser().parse_args(arguments)
    if options.prompt is None and not options.chat:
        raise UserError("there is no --prompt. Give a text to continue, or --chat to talk.")
    import torch

    from lightning_dropout.cli.assembly import guarded
    from lightning_dropout.cli.text_generator import find_text_generator

    with guarded():
        generator = find_text_generator(Path(options.path))
        if options.chat and generator.chat_template is None:
            raise UserError(f"{options.path} has no chat template. Leave out --chat.")
        try:
            source = torch.Generator(options.device)
            generator.network.to(options.device)
        except (AssertionError, RuntimeError) as error:
            raise UserError(f"--device {options.device}: {one_line(error)} Give another one, such as cpu.") from error
        source.manual_seed(options.seed % 2**63)
        settings = {name: getattr(options, name) for name in ("temperature", "top_k", "top_p")}
        try:
            (_talk if options.chat else _continue)(generator, options, {**settings, "generator": source})
        except KeyboardInterrupt:  # the user has read enough
            print()
    return 0


def _parser() -> Parser:
    parser = Parser(
        "generate",
        "Write text with the language model of a run, or of a checkpoint folder of Llama or GPT-2.",
        [
            ('generate runs/char-lm --prompt "Fellow citizens"', "the best checkpoint of the latest run"),
            ('generate my-llama --prompt "Once" --temperature 0', "a folder; always the likeliest token"),
            ("generate my-llama --chat", "a conversation, line by line"),
        ],
    )
    parser.add_argument("path", metavar="PATH", help="a checkpoint, the folder of a run, or a checkpoint folder")
    parser.add_argument("--prompt", metavar="TEXT", help="what to continue, or with --chat to answer")
    parser.add_argument("--chat", action="store_true", help="answer, through the folder's chat template")
    parser.add_argument("--num-tokens", metavar="N", type=whole_number, default=200, help="most tokens to add (200)")
    parser.add_argument(
        "--temperature", metavar="T", type=number, default=0.8, help="0 takes the likeliest token, 1 draws (0.8)"
    )
    parser.add_argument("--top-k", metavar="K", type=whole_number, help="draw from the K likeliest tokens")
    parser.add_argument("--top-p", metavar="P", type=number, help="draw from the fewest with a probability of P in all")
    parser.add_argument("--seed", metavar="N", type=whole_number, default=0, help="another one, another text (0)")
    parser.add_argument("--device", metavar="D", default="cpu", help="cpu, cuda, ... (cpu)")
    return parser


def _continue(generator: TextGenerator, options: Namespace, settings: dict[str, Any]) -> None:
    beginning = iter([options.prompt])  # printed with the first piece, so that what is refused prints nothing

    def write(piece: str) -> None:
        print(next(beginning, ""), piece, sep="", end="", flush=True)

    generator.tokenizer = _Ending(generator.tokenizer, generator.network.config.num_positions)
    generator.generate(options.prompt, options.num_tokens, on_text=write, **settings)
    write("\n")


def _talk(generator: TextGenerator, options: Namespace, settings: dict[str, Any]) -> None:
    messages: list[dict[str, str]] = []
    for question in _questions(options.prompt):
        messages.append({"role": "user", "content": question})
        reply = generator.chat(messages, options.num_tokens, on_text=partial(print, end="", flush=True), **settings)
        messages.append({"role": "assistant", "content": reply})
        print()


def _questions(prompt: str | None) -> Iterator[str]:
    """The prompt, or what is typed until the end of the input."""
    if prompt is not None:
        yield prompt
        return
    while True:
        try:
            yield input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return


class _Ending:
    """A tokenizer that gives the end of a long text, which is all that a model sees of it."""

    def __init__(self, tokenizer: Any, num_tokens: int) -> None:
        self._tokenizer, self._num_tokens = tokenizer, num_tokens

    def encode(self, text: str) -> Namespace:
        return Namespace(ids=self._tokenizer.encode(text).ids[-self._num_tokens :])

    def decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids))
