"""Checkpoints of Llama."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_dropout.models.transformer.checkpoint.link import Link, one_to_one, stacked
from lightning_dropout.models.transformer.checkpoint.settings import require
from lightning_dropout.models.transformer.config import TransformerConfig
from lightning_dropout.models.transformer.dropout import TransformerDropout
from lightning_dropout.models.transformer.options import RotaryConfig, RotaryScaling

__all__ = ["fits", "links", "options", "settings", "weight_name"]

_FORM: Mapping[str, Any] = {"position": "rotary", "norm": "rms", "norm_position": "pre", "activation": "swiglu"}


def options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What ``Transformer`` is built with, from the contents of ``config.json``."""
    heads, dim = settings["num_attention_heads"], settings["hidden_size"]
    bias = bool(settings.get("attention_bias"))
    require(settings, "hidden_act", "silu")
    require(settings, "mlp_bias", bias, default=False)
    require(settings, "head_dim", dim // heads)
    return {
        **_FORM,
        "vocab_size": settings["vocab_size"],
        "num_layers": settings["num_hidden_layers"],
        "num_heads": heads,
        "num_kv_heads": settings.get("num_key_value_heads", heads),
        "dim": dim,
        "hidden_dim": settings["intermediate_size"],
        "context_length": settings["max_position_embeddings"],
        "rotary": _rotary(settings),
        "norm_eps": settings["rms_norm_eps"],
        "bias": bias,
        "tie_weights": settings.get("tie_word_embeddings", False),
        "dropout": TransformerDropout(
            emb=0.0, attn=settings.get("attention_dropout", 0.0), attn_sublayer=0.0, ff_sublayer=0.0
        ),
    }


def settings(config: TransformerConfig) -> dict[str, Any]:
    """The contents of ``config.json``."""
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rotary.base}
    if config.rotary.scaling is not None:
        scaling = config.rotary.scaling
        rope |= {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_context_length,
        }
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": config.vocab_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.key_value_heads,
        "hidden_size": config.dim,
        "head_dim": config.head_dim,
        "intermediate_size": config.feed_forward_dim,
        "max_position_embeddings": config.context_length,
        "rope_parameters": rope,
        # What transformers read before version 5.
        "rope_theta": config.rotary.base,
        "rope_scaling": rope if config.rotary.scaling is not None else None,
        "rms_norm_eps": config.norm_eps,
        "hidden_act": "silu",
        "attention_bias": config.bias,
        "mlp_bias": config.bias,
        "attention_dropout": config.dropout.attn,
        "tie_word_embeddings": config.tie_weights,
        "bos_token_id": None,
        "eos_token_id": None,
    }


def links(config: TransformerConfig) -> Iterator[Link]:
    """Which of our parameters holds which of Llama's."""
    yield one_to_one("embedding.weight", "model.embed_tokens.weight")
    yield one_to_one("norm.weight", "model.norm.weight")
    if not config.tie_weights:
        yield one_to_one("head.weight", "lm_head.weight")
    for depth in range(config.num_layers):
        ours, theirs = f"blocks.{depth}", f"model.layers.{depth}"
        yield one_to_one(f"{ours}.attention_norm.weight", f"{theirs}.input_layernorm.weight")
        yield one_to_one(f"{ours}.feed_forward_norm.weight", f"{theirs}.post_attention_layernorm.weight")
        for kind in ("weight", "bias") if config.bias else ("weight",):
            projections = [f"{theirs}.self_attn.{name}_proj.{kind}" for name in "qkv"]
            yield _paired(stacked(f"{ours}.attention.qkv.{kind}", projections, _sizes(config)), config.head_dim)
            yield one_to_one(f"{ours}.attention.output.{kind}", f"{theirs}.self_attn.o_proj.{kind}")
            gates = [f"{theirs}.mlp.{name}_proj.{kind}" for name in ("gate", "up")]
            yield stacked(f"{ours}.feed_forward.input.{kind}", gates, [config.feed_forward_dim] * 2)
            yield one_to_one(f"{ours}.feed_forward.output.{kind}", f"{theirs}.mlp.down_proj.{kind}")


def weight_name(name: str) -> str | None:
    """The name in ``links`` of a tensor of the checkpoint; None if it is no weight."""
    return None if name.endswith("rotary_emb.inv_freq") else name


def fits(config: TransformerConfig) -> bool:
    """Whether a Transformer has the form of Llama."""
    return all(getattr(config, name) == value for name, value in _FORM.items())


def _rotary(settings: Mapping[str, Any]) -> RotaryConfig:
    rope = settings.get("rope_parameters") or settings.get("rope_scaling") or {}
    base = rope.get("rope_theta", settings.get("rope_theta", 10000.0))
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return RotaryConfig(base)
    require({"rope_type": kind}, "rope_type", "llama3")
    scaling = RotaryScaling(
        factor=rope["factor"],
        original_context_length=rope["original_max_position_embeddings"],
        low_freq_factor=rope["low_freq_factor"],
        high_freq_factor=rope["high_freq_factor"],
    )
    return RotaryConfig(base, scaling)


def _sizes(config: TransformerConfig) -> list[int]:
    return [heads * config.head_dim for heads in (config.num_heads, config.key_value_heads, config.key_value_heads)]


def _paired(link: Link, head_dim: int) -> Link:
    """Hugging Face's Llama turns entry i of a head with entry i + dim / 2, we turn neighbours."""

    def join(tensors: list[Tensor]) -> Tensor:
        q, k, v = tensors
        return torch.cat((_interleave(q, head_dim), _interleave(k, head_dim), v))

    def split(tensor: Tensor) -> Sequence[Tensor]:
        q, k, v = link.split(tensor)
        return _separate(q, head_dim), _separate(k, head_dim), v

    return Link(link.ours, link.theirs, join, split)


def _interleave(rows: Tensor, head_dim: int) -> Tensor:
    return rows.view(-1, 2, head_dim // 2, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def _separate(rows: Tensor, head_dim: int) -> Tensor:
    return rows.view(-1, head_dim // 2, 2, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)
