"""Text generation: one token after the other, with a key/value cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

import torch
from torch import Tensor, nn

from lightning_dropout.layers import LiveRate
from lightning_dropout.models.transformer.sampling import check_sampling, choose_tokens
from lightning_dropout.models.transformer.window import Window

if TYPE_CHECKING:
    from lightning_dropout.models.transformer.model import Transformer

__all__ = ["GenerationMixin"]

Prompts = TypeVar("Prompts", Tensor, list[Tensor])


class GenerationMixin(nn.Module):
    """Gives a Transformer ``generate``."""

    def generate(
        self,
        prompt_ids: Prompts,
        max_new_tokens: int,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        stop_ids: Sequence[int] = (),
        generator: torch.Generator | None = None,
        *,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        allow_dropout: bool = False,
        on_tokens: Callable[[Tensor], None] | None = None,
    ) -> Prompts:
        """Continue prompts and return them with what was added, in the form in which they came.

        One prompt is a tensor of shape ``(length,)``; several are ``(batch, length)`` or, at different lengths, a list
        of 1-D tensors. The text of one row never depends on the others. A row ends with its first stop token, which
        is repeated where a tensor must be filled.

        The network sees ``context_length`` tokens. A longer text goes on: whenever the window is full, the latest half
        of it is read again as a new beginning.

        Args:
            prompt_ids: The tokens to continue, at least one per prompt.
            max_new_tokens: Most tokens to add to each prompt.
            temperature: Divides the logits before one token is drawn; 0 takes the likeliest.
            top_k: Draw from so many of the likeliest tokens.
            top_p: Draw from the fewest tokens whose probabilities sum to this.
            stop_ids: Tokens that end a text.
            generator: Source of the draws, in place of the global one.
            context: As in ``forward``, one row per prompt.
            context_mask: As in ``forward``.
            allow_dropout: Run even though dropout is active, as in Monte Carlo dropout.
            on_tokens: Called with the new tokens of all rows, ``(batch,)``, as soon as they are chosen. A row that has
                ended goes on there while others run.

        Raises:
            RuntimeError: If dropout is active and was not allowed.
            ValueError: If the network is an encoder, a prompt is empty or longer than ``context_length``, or a
                sampling option is out of range.
        """
        network = cast("Transformer", self)
        active = [name for name, layer in self.named_modules() if isinstance(layer, LiveRate) and not layer.idle]
        if active and not allow_dropout:
            raise RuntimeError(
                f"generate() was called with dropout active at {len(active)} sites, {active[0]!r} among them. "
                "Call .eval() first, or pass allow_dropout=True."
            )
        if network.config.encoder is not None:
            raise ValueError("generate() needs a decoder, but this Transformer was built with encoder=. Leave it out.")
        if max_new_tokens < 0:
            raise ValueError(f"generate(max_new_tokens={max_new_tokens}) is negative. Give 0 or more.")
        check_sampling(temperature=temperature, top_k=top_k, top_p=top_p)
        choose = partial(choose_tokens, temperature=temperature, top_k=top_k, top_p=top_p, generator=generator)
        prompts = [prompt_ids] if isinstance(prompt_ids, Tensor) and prompt_ids.dim() == 1 else list(prompt_ids)
        for prompt in prompts:
            if not isinstance(prompt, Tensor) or prompt.dim() != 1 or prompt.is_floating_point():
                found = f"{prompt.dtype} of {prompt.dim()} dimensions" if isinstance(prompt, Tensor) else repr(prompt)
                raise ValueError(f"generate() found a prompt that is {found}. Give token ids: whole numbers, in 1-D.")
        texts = _continue(
            network,
            prompts,
            max_new_tokens,
            choose,
            stop_ids,
            (context, context_mask),
            on_tokens,
            drops=bool(active),
        )
        if isinstance(prompt_ids, list):
            return texts
        return texts[0] if prompt_ids.dim() == 1 else _fill(texts)


@torch.inference_mode()
def _continue(
    network: Transformer,
    prompts: list[Tensor],
    max_new_tokens: int,
    choose: Callable[[Tensor], Tensor],
    stop_ids: Sequence[int],
    context: tuple[Tensor | None, Tensor | None],
    on_tokens: Callable[[Tensor], None] | None,
    *,
    drops: bool,
) -> list[Tensor]:
    """Prompts are aligned at their ends, so that all rows write the same column next."""
    width = _check_prompts(prompts, network.config.num_positions)
    device = next(network.parameters()).device
    starts = [width - len(prompt) for prompt in prompts]
    tokens = torch.zeros(len(prompts), width + max_new_tokens, dtype=torch.long, device=device)
    for row, start, prompt in zip(tokens, starts, prompts, strict=True):
        row[start:width] = prompt
    window = Window(network, tokens, starts, network.prepare_context(*context), drops=drops)
    stops = torch.tensor(stop_ids, dtype=torch.long, device=device)
    ends = torch.full((len(prompts),), width, device=device)
    running = torch.ones(len(prompts), dtype=torch.bool, device=device)
    for column in range(width, width + max_new_tokens):
        chosen = tokens[:, column] = choose(window.next_logits(column))
        if on_tokens is not None:
            on_tokens(chosen)
        if len(stop_ids):
            ends += running
            running &= ~torch.isin(chosen, stops)
            if not running.any():
                break
    last = ends.tolist() if len(stop_ids) else [width + max_new_tokens] * len(prompts)
    return [row[start:end] for row, start, end in zip(tokens, starts, last, strict=True)]


def _check_prompts(prompts: list[Tensor], context_length: int) -> int:
    lengths = [len(prompt) for prompt in prompts]
    if not lengths or min(lengths) == 0:
        raise ValueError(f"generate() was given {'an empty prompt' if lengths else 'no prompt'}. Give a token or more.")
    if max(lengths) > context_length:
        raise ValueError(
            f"generate() was given a prompt of {max(lengths)} tokens, more than context_length={context_length}. "
            "Keep its last tokens."
        )
    return max(lengths)


def _fill(rows: list[Tensor]) -> Tensor:
    width = max(len(row) for row in rows)
    return torch.stack([torch.cat((row, row[-1:].expand(width - len(row)))) for row in rows])
