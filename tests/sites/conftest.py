from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}
LLAMA = {**BERT, "num_key_value_heads": 2, "attention_dropout": 0.1}
BART = {
    "d_model": 32,
    **{f"{part}_{what}": n for part in ("encoder", "decoder") for what, n in [("layers", 2), ("attention_heads", 4)]},
    **{f"{part}_{what}": n for part in ("encoder", "decoder") for what, n in [("ffn_dim", 40), ("layerdrop", 0.1)]},
    **{f"{what}dropout": 0.1 for what in ("", "attention_", "activation_")},
}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 4}
VIT = {**BERT, "image_size": 16, "patch_size": 8, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
WAV2VEC2 = {
    **BERT,
    "conv_dim": [16, 16],
    "conv_stride": [5, 4],
    "conv_kernel": [10, 4],
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "mask_time_prob": 0.0,
}
#: Small configurations by the name that transformers has for the architecture.
CONFIGS: dict[str, dict[str, Any]] = {
    "albert": {**BERT, "embedding_size": 16, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
    "bart": BART,
    "bert": BERT,
    "biogpt": {**BERT, "layerdrop": 0.1, "activation_dropout": 0.1},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4, "hidden_dropout": 0.1, "attention_dropout": 0.1},
    "data2vec-audio": WAV2VEC2,
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 40},
    "electra": {**BERT, "embedding_size": 16},
    "falcon": {**BERT, "hidden_dropout": 0.1, "attention_dropout": 0.1},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "gpt_bigcode": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "gpt_neox": {**BERT, "hidden_dropout": 0.1, "attention_dropout": 0.1},
    "llama": LLAMA,
    "marian": BART,
    "mistral": LLAMA,
    "mpnet": BERT,
    "opt": {**BERT, "ffn_dim": 40, "word_embed_proj_dim": 32, "attention_dropout": 0.1, "layerdrop": 0.1},
    "pegasus": BART,
    "persimmon": {**BERT, "hidden_dropout": 0.1, "attention_dropout": 0.1},
    "qwen2": LLAMA,
    "roberta": BERT,
    "t5": T5,
    "umt5": T5,
    "vit": VIT,
    "wav2vec2": WAV2VEC2,
    "wavlm": WAV2VEC2,
    "whisper": {**BART, "max_source_positions": 16},
    "xlnet": {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 40},
}
VOCAB = {"vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}

Builder = Callable[..., tuple[nn.Module, dict[str, torch.Tensor]]]


@pytest.fixture(scope="session")
def hugging_face() -> Builder:
    """Builds a small model of an architecture, in train mode, and its inputs."""
    transformers = pytest.importorskip("transformers")
    transformers.logging.set_verbosity_error()

    def build(name: str, *, attention: str = "eager") -> tuple[nn.Module, dict[str, torch.Tensor]]:
        config = transformers.AutoConfig.for_model(name)
        config = transformers.AutoConfig.for_model(
            name, **{k: v for k, v in VOCAB.items() if hasattr(config, k)}, **CONFIGS[name]
        )
        model = transformers.AutoModel.from_config(config, attn_implementation=attention).train()
        ids = torch.randint(3, 64, (2, 8))
        inputs = {
            "input_ids": {"input_ids": ids},
            "pixel_values": {"pixel_values": torch.randn(2, 3, 16, 16)},
            "input_values": {"input_values": torch.randn(2, 1200)},
            "input_features": {"input_features": torch.randn(2, 80, 32)},
        }[model.main_input_name]
        if config.is_encoder_decoder:
            inputs["decoder_input_ids"] = ids
        return model, inputs

    return build
