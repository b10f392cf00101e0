"""From text to text."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from lightning_dropout.models.transformer.checkpoint.chat import ChatTemplate
from lightning_dropout.models.transformer.checkpoint.folder import find_folder, read_json
from lightning_dropout.models.transformer.checkpoint.optional import optional_module
from lightning_dropout.models.transformer.model import Transformer
from lightning_dropout.models.transformer.text_stream import TextStream

__all__ = ["TextGenerator"]

Prompts = TypeVar("Prompts", str, list[str])


class TextGenerator:
    """Continues texts and answers chats with a network, its tokenizer and, for Instruct models, its chat template.

    Args:
        network: A decoder; its device and mode stay as they are.
        tokenizer: A ``tokenizers.Tokenizer``.
        stop_ids: Tokens that end a text.
        chat_template: How a conversation is written; needed for ``chat``.
    """

    def __init__(
        self,
        network: Transformer,
        tokenizer: Any,
        *,
        stop_ids: Sequence[int] = (),
        chat_template: ChatTemplate | None = None,
    ) -> None:
        self.network, self.tokenizer = network, tokenizer
        self.stop_ids, self.chat_template = tuple(stop_ids), chat_template

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str], *, dtype: torch.dtype | None = None) -> TextGenerator:
        """Read network, ``tokenizer.json``, stop tokens and chat template from a checkpoint folder; sets eval mode.

        Raises:
            ValueError: If the folder is not there or not complete.
        """
        path = find_folder(folder)
        if not (path / "tokenizer.json").is_file():
            raise ValueError(
                f"{path} has no tokenizer.json. Give a folder with one, or use Transformer.from_pretrained()."
            )
        tokenizer = optional_module("tokenizers").Tokenizer.from_file(str(path / "tokenizer.json"))
        network = Transformer.from_pretrained(path, dtype=dtype).eval()
        return cls(network, tokenizer, stop_ids=_stop_ids(path), chat_template=ChatTemplate.from_folder(path))

    def generate(
        self, prompts: Prompts, max_new_tokens: int, *, on_text: Callable[[str], None] | None = None, **options: Any
    ) -> Prompts:
        """Continue one prompt or a list of them; returns what was added. ``options`` are ``Transformer.generate``'s.

        ``on_text`` is called with the pieces of the text of a single prompt, as they come.

        Raises:
            ValueError: If a prompt is longer than the network's ``context_length``, an option is out of range, or there
                is ``on_text`` for several prompts.
        """
        if isinstance(prompts, str):
            return self.generate([prompts], max_new_tokens, on_text=on_text, **options)[0]
        if on_text is not None and len(prompts) != 1:
            raise ValueError(f"generate(on_text=...) was given {len(prompts)} prompts. Give one, or leave out on_text.")
        ids = [self.tokenizer.encode(prompt).ids for prompt in prompts]
        return self._continue(ids, max_new_tokens, on_text, options)

    def chat(
        self,
        messages: Sequence[Mapping[str, str]],
        max_new_tokens: int,
        *,
        on_text: Callable[[str], None] | None = None,
        **options: Any,
    ) -> str:
        """Answer a conversation of messages ``{"role": ..., "content": ...}``; returns the reply.

        ``on_text`` is called with its pieces, as they come.

        Raises:
            ValueError: If there is no chat template, or it does not accept the messages.
        """
        if self.chat_template is None:
            raise ValueError("chat() needs a chat template, and this checkpoint has none. Use generate().")
        text = self.chat_template.render(messages)  # holds the special tokens already
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        return self._continue([ids], max_new_tokens, on_text, options)[0]

    def _continue(
        self,
        prompts: list[list[int]],
        max_new_tokens: int,
        on_text: Callable[[str], None] | None,
        options: Mapping[str, Any],
    ) -> list[str]:
        rows = [torch.tensor(prompt, dtype=torch.long) for prompt in prompts]
        settings = {"stop_ids": self.stop_ids, **options}
        if on_text is None:
            texts = self.network.generate(rows, max_new_tokens, **settings)
        else:
            stream = TextStream(lambda new: self._added(prompts[0], prompts[0] + new), on_text)
            texts = self.network.generate(rows, max_new_tokens, on_tokens=stream, **settings)
            stream.close()
        return [self._added(prompt, text.tolist()) for prompt, text in zip(prompts, texts, strict=True)]

    def _added(self, prompt: list[int], text: list[int]) -> str:
        """Decoded together, because some tokenizers drop the space in front of a text that is decoded alone."""
        before, whole = self.tokenizer.decode(prompt), self.tokenizer.decode(text)
        added: str = whole[len(before) :] if whole.startswith(before) else self.tokenizer.decode(text[len(prompt) :])
        return added


def _stop_ids(folder: Path) -> tuple[int, ...]:
    ids = read_json(folder, "generation_config.json", default={}).get("eos_token_id")
    if ids is None:
        ids = read_json(folder, "config.json").get("eos_token_id")
    return tuple(ids) if isinstance(ids, list) else () if ids is None else (ids,)
