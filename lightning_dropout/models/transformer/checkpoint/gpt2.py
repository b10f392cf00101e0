"""Checkpoints of GPT-2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lightning_dropout.models.transformer.checkpoint.link import Link, one_to_one, transposed
from lightning_dropout.models.transformer.checkpoint.settings import require
from lightning_dropout.models.transformer.config import TransformerConfig
from lightning_dropout.models.transformer.dropout import TransformerDropout

__all__ = ["fits", "links", "options", "settings", "weight_name"]

_FORM: Mapping[str, Any] = {"position": "learned", "norm": "layer", "norm_position": "pre", "bias": True}
_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu"}


def options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What ``Transformer`` is built with, from the contents of ``config.json``."""
    activation = settings.get("activation_function", "gelu_new")
    require(settings, "activation_function", *_ACTIVATIONS, default="gelu_new")
    require(settings, "scale_attn_weights", True)
    require(settings, "scale_attn_by_inverse_layer_idx", False)
    require(settings, "add_cross_attention", False)
    residual = settings.get("resid_pdrop", 0.1)
    return {
        **_FORM,
        "vocab_size": settings["vocab_size"],
        "num_layers": settings["n_layer"],
        "num_heads": settings["n_head"],
        "dim": settings["n_embd"],
        "hidden_dim": settings.get("n_inner"),
        "context_length": settings["n_positions"],
        "norm_eps": settings["layer_norm_epsilon"],
        "activation": _ACTIVATIONS[activation],
        "tie_weights": settings.get("tie_word_embeddings", True),
        "dropout": TransformerDropout(
            emb=settings.get("embd_pdrop", 0.1),
            attn=settings.get("attn_pdrop", 0.1),
            attn_sublayer=residual,
            ff_sublayer=residual,
        ),
    }


def settings(config: TransformerConfig) -> dict[str, Any]:
    """The contents of ``config.json``."""
    activations = {ours: theirs for theirs, ours in reversed(_ACTIVATIONS.items())}
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": config.vocab_size,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "n_embd": config.dim,
        "n_inner": config.feed_forward_dim,
        "n_positions": config.context_length,
        "layer_norm_epsilon": config.norm_eps,
        "activation_function": activations[config.activation],
        "embd_pdrop": config.dropout.emb,
        "attn_pdrop": config.dropout.attn,
        "resid_pdrop": config.dropout.attn_sublayer,
        "tie_word_embeddings": config.tie_weights,
        "bos_token_id": None,
        "eos_token_id": None,
    }


def links(config: TransformerConfig) -> Iterator[Link]:
    """Which of our parameters holds which of GPT-2's."""
    yield one_to_one("embedding.weight", "transformer.wte.weight")
    yield one_to_one("positions.weight", "transformer.wpe.weight")
    if not config.tie_weights:
        yield one_to_one("head.weight", "lm_head.weight")
    norms = {"norm": "transformer.ln_f"}
    matrices: dict[str, str] = {}
    for depth in range(config.num_layers):
        ours, theirs = f"blocks.{depth}", f"transformer.h.{depth}"
        norms |= {f"{ours}.attention_norm": f"{theirs}.ln_1", f"{ours}.feed_forward_norm": f"{theirs}.ln_2"}
        matrices |= {
            f"{ours}.attention.qkv": f"{theirs}.attn.c_attn",
            f"{ours}.attention.output": f"{theirs}.attn.c_proj",
            f"{ours}.feed_forward.input": f"{theirs}.mlp.c_fc",
            f"{ours}.feed_forward.output": f"{theirs}.mlp.c_proj",
        }
    for mine, yours in matrices.items():
        yield transposed(f"{mine}.weight", f"{yours}.weight")
        yield one_to_one(f"{mine}.bias", f"{yours}.bias")
    for mine, yours in norms.items():
        yield one_to_one(f"{mine}.weight", f"{yours}.weight")
        yield one_to_one(f"{mine}.bias", f"{yours}.bias")


def weight_name(name: str) -> str | None:
    """The name in ``links`` of a tensor of the checkpoint; None if it is no weight.

    Early checkpoints leave the prefix out and keep their causal masks.
    """
    if name.endswith((".attn.bias", ".attn.masked_bias")):
        return None
    return f"transformer.{name}" if name.startswith(("wte.", "wpe.", "h.", "ln_f.")) else name


def fits(config: TransformerConfig) -> bool:
    """Whether a Transformer has the form of GPT-2."""
    in_form = all(getattr(config, name) == value for name, value in _FORM.items())
    return in_form and config.activation in _ACTIVATIONS.values() and config.key_value_heads == config.num_heads
