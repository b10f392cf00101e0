"""One causal language model from several hands: ours, torch's, Hugging Face's, x-transformers', a minimal one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lightning_dropout as ld


@dataclass(frozen=True)
class Shape:
    """Sizes of a model and of its batches, and the rate of every dropout site that is on."""

    num_layers: int = 4
    num_heads: int = 4
    dim: int = 128
    context_length: int = 64
    batch_size: int = 12
    vocab_size: int = 65
    rate: float = 0.1

    @property
    def num_tokens(self) -> int:
        return self.batch_size * self.context_length

    def tokens(self) -> Tensor:
        return torch.randint(self.vocab_size, (self.batch_size, self.context_length))


#: Of GPT-2 small, for a GPU.
GPU = Shape(num_layers=12, num_heads=12, dim=768, context_length=1024, batch_size=16, vocab_size=50304)
QUICK = Shape(num_layers=1, num_heads=2, dim=16, context_length=8, batch_size=2, vocab_size=11)
FOUR_SITES = ("emb", "attn", "attn_sublayer", "ff_sublayer")
FIVE_SITES = (*FOUR_SITES, "ff")


def forward_backward(forward: Callable[[Tensor], Tensor], inputs: Tensor, targets: Tensor) -> Callable[[], None]:
    """A forward pass, the loss, and the backward pass; under bf16 autocast on a GPU."""
    precision = torch.autocast(inputs.device.type, torch.bfloat16, enabled=inputs.is_cuda)

    def run() -> None:
        with precision:
            logits = forward(inputs)
            loss = F.cross_entropy(logits.flatten(0, -2).float(), targets.flatten())
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]

    return run


class Peer(nn.Module):
    """A model of Hugging Face, called as all others are: token ids in, one tensor out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        output: Tensor = self.model(tokens, use_cache=False, return_dict=False)[0]
        return output


class Embedded(nn.Module):
    """Learned positions and dropout around blocks, with the embedding as output layer, as in GPT-2."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.tokens = nn.Embedding(shape.vocab_size, shape.dim)
        self.positions = nn.Embedding(shape.context_length, shape.dim)
        self.dropout = nn.Dropout(shape.rate)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.dropout(self.tokens(tokens) + self.positions.weight[: tokens.shape[1]])
        return F.linear(self.blocks(x), self.tokens.weight)

    def blocks(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class TorchEncoder(Embedded):
    """``nn.TransformerEncoder`` made causal."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        layer = nn.TransformerEncoderLayer(
            shape.dim, shape.num_heads, 4 * shape.dim, shape.rate, "gelu", batch_first=True, norm_first=True
        )
        norm = nn.LayerNorm(shape.dim)
        self.encoder = nn.TransformerEncoder(layer, shape.num_layers, norm, enable_nested_tensor=False)
        mask = nn.Transformer.generate_square_subsequent_mask(shape.context_length)
        self.register_buffer("mask", mask, persistent=False)

    def blocks(self, x: Tensor) -> Tensor:
        output: Tensor = self.encoder(x, mask=self.mask, is_causal=True)
        return output


class Minimal(Embedded):
    """As nanoGPT is built: one projection for queries, keys and values, torch's fused attention, exact GELU."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.layers = nn.Sequential(*(MinimalBlock(shape) for _ in range(shape.num_layers)))
        self.norm = nn.LayerNorm(shape.dim)

    def blocks(self, x: Tensor) -> Tensor:
        x = self.norm(self.layers(x))
        return x


class MinimalBlock(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.num_heads, self.rate, dim = shape.num_heads, shape.rate, shape.dim
        self.attention_norm, self.mlp_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.output = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim), nn.Dropout(shape.rate))
        self.dropout = nn.Dropout(shape.rate)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.num_heads, -1))
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(dim=2))
        rate = self.rate if self.training else 0.0
        context = F.scaled_dot_product_attention(q, k, v, dropout_p=rate, is_causal=True)
        x = x + self.dropout(self.output(context.transpose(1, 2).flatten(2)))
        x = x + self.mlp(self.mlp_norm(x))
        return x


GPT2_FORM: dict[str, Any] = {
    "position": "learned",
    "norm": "layer",
    "activation": "gelu",
    "bias": True,
    "tie_weights": True,
}


def ours(shape: Shape, *sites: str, **options: Any) -> ld.Transformer:
    """Our Transformer, with the shape's rate at ``sites``; in the form of Llama unless ``options`` say otherwise."""
    silent: dict[str, Any] = dict.fromkeys(FOUR_SITES, 0.0)
    return ld.Transformer(
        shape.vocab_size,
        num_layers=shape.num_layers,
        num_heads=shape.num_heads,
        dim=shape.dim,
        context_length=shape.context_length,
        hidden_dim=4 * shape.dim,
        dropout=ld.TransformerDropout(**{**silent, **dict.fromkeys(sites, shape.rate)}),
        **options,
    )


def hugging_face_gpt2(shape: Shape) -> Peer:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=shape.vocab_size,
        n_positions=shape.context_length,
        n_embd=shape.dim,
        n_layer=shape.num_layers,
        n_head=shape.num_heads,
        activation_function="gelu",
        bos_token_id=None,
        eos_token_id=None,
        embd_pdrop=shape.rate,
        attn_pdrop=shape.rate,
        resid_pdrop=shape.rate,
    )
    return Peer(GPT2LMHeadModel(config))


def _sizes(shape: Shape) -> dict[str, int]:
    """Under the names that most configurations of Hugging Face share."""
    return {
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.dim,
        "intermediate_size": 4 * shape.dim,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "max_position_embeddings": shape.context_length,
    }


def hugging_face_llama(shape: Shape) -> Peer:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        **_sizes(shape),
        attention_dropout=shape.rate,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    return Peer(LlamaForCausalLM(config))


def hugging_face_bert(shape: Shape) -> Peer:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        **_sizes(shape),
        hidden_dropout_prob=shape.rate,
        attention_probs_dropout_prob=shape.rate,
    )
    return Peer(BertModel(config, add_pooling_layer=False))


def x_transformers_decoder(shape: Shape) -> nn.Module:
    from x_transformers import Decoder, TransformerWrapper  # type: ignore[import-untyped, unused-ignore]

    sites = ("attn_dropout", "attn_sublayer_dropout", "ff_dropout", "ff_sublayer_dropout")
    layers = Decoder(
        dim=shape.dim,
        depth=shape.num_layers,
        heads=shape.num_heads,
        attn_dim_head=shape.dim // shape.num_heads,
        attn_flash=True,
        **dict.fromkeys(sites, shape.rate),
    )
    model: nn.Module = TransformerWrapper(
        num_tokens=shape.vocab_size,
        max_seq_len=shape.context_length,
        emb_dropout=shape.rate,
        tie_embedding=True,
        attn_layers=layers,
    )
    return model
