"""The dropout rates of a Transformer."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from lightning_dropout.layers import Profile, exponential, linear, uniform
from lightning_dropout.layers.rate import check_rate
from lightning_dropout.models.checks import check_choices

__all__ = ["TransformerDropout"]

_PROFILES = {"uniform": uniform, "linear": linear, "exponential": exponential}


@dataclass(frozen=True)
class TransformerDropout:
    """The dropout rate of every site of a Transformer.

    The defaults are those of GPT (Radford et al. 2018), which GPT-2 kept: 0.1 on the embeddings, on the attention
    weights and on what each sublayer adds to the residual stream. The sites that GPT does not have are built at
    rate 0, so that a schedule can raise them. Cross attention has its own ``cross_attn``, ``cross_attn_head`` and
    ``cross_attn_sublayer``, with the rates of ``attn``, ``attn_head`` and ``attn_sublayer``.

    Args:
        emb: After the sum of token and position embeddings.
        token: Whole positions: patches or words of an encoder, keys of a decoder.
        attn: On the attention weights, after the softmax; or on the context vectors, see ``attn_on``.
        attn_head: Whole attention heads, the others rescaled.
        attn_sublayer: After attention's output projection, before the residual addition.
        ff: After the activation, before the second linear layer.
        ff_sublayer: After the second linear layer, before the residual addition.
        path: Whole residual branches, each sample for itself (stochastic depth).
        layer: Whole blocks, once for the batch.
        cross_attn_tokens: Whole positions of the context, before cross attention.
        attn_on: What ``attn`` drops: ``"weights"`` or ``"context"``.
        path_profile: How the rate of ``path`` grows with depth up to the given one, see ``layers.profiles``.
        token_how: ``"remove"`` shortens the sequence, ``"mask"`` hides keys. Decoders and rotary positions can only
            mask; ``"auto"`` removes elsewhere.

    Raises:
        ValueError: If a rate lies outside [0, 1] or a name is unknown.
    """

    emb: float = 0.1
    token: float = 0.0
    attn: float = 0.1
    attn_head: float = 0.0
    attn_sublayer: float = 0.1
    ff: float = 0.0
    ff_sublayer: float = 0.1
    path: float = 0.0
    layer: float = 0.0
    cross_attn_tokens: float = 0.0
    attn_on: Literal["weights", "context"] = "weights"
    path_profile: Literal["uniform", "linear", "exponential"] = "linear"
    token_how: Literal["auto", "remove", "mask"] = "auto"

    def __post_init__(self) -> None:
        check_choices(self)
        for field in fields(self):
            if isinstance(field.default, float):
                check_rate(getattr(self, field.name), what=f"TransformerDropout({field.name})")

    def path_rates(self, num_layers: int) -> Profile:
        """The rate of ``path`` as a function of depth."""
        return _PROFILES[self.path_profile](self.path, num_layers)
