"""What an audit says of six models of Hugging Face; every finding was reviewed against their source."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lightning_dropout.sites import audit

transformers = pytest.importorskip("transformers")
IDS = torch.randint(3, 64, (2, 8))
SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def build(name: str, *, training: bool = True, **config: Any) -> Any:
    architecture = getattr(transformers, name)
    return architecture(architecture.config_class(**config)).train(training)


def found(*args: Any, **kwargs: Any) -> set[tuple[str, str]]:
    return {(finding.code, finding.site) for finding in audit(*args, **kwargs)}


def test_bert_is_clean_but_comes_in_eval_mode_from_a_checkpoint() -> None:
    model = build("BertForSequenceClassification", **SMALL)
    assert found(model, input_ids=IDS) == set()
    assert found(model.eval(), input_ids=IDS) == {("LD009", "")}


def test_gpt2_is_clean() -> None:
    model = build("GPT2LMHeadModel", vocab_size=64, n_embd=32, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2)
    assert found(model, input_ids=IDS, labels=IDS) == set()


def test_swin_leaves_out_the_first_drop_path_whose_rate_is_zero() -> None:
    size = {"image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [2], "num_heads": [2], "window_size": 4}
    model = build("SwinForImageClassification", **size, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    first = "swin.encoder.layers.0.blocks.0.drop_path"
    assert found(model, pixel_values=torch.randn(2, 3, 16, 16)) == {("LD010", first)}


def test_conformer_drops_elements_of_convolution_maps() -> None:
    size = {"conv_dim": [16, 16], "conv_stride": [5, 4], "conv_kernel": [10, 4], "num_conv_pos_embeddings": 8}
    groups = {"num_conv_pos_embedding_groups": 2, "mask_time_prob": 0.0}
    model = build("Wav2Vec2ConformerForCTC", **SMALL, **size, **groups, final_dropout=0.1)
    blocks = "wav2vec2_conformer.encoder.layers"
    expected = {("LD005", f"{blocks}.{i}.conv_module.dropout") for i in range(2)}
    assert found(model, input_values=torch.randn(2, 1200)) == expected


def test_efficientnet_drops_elements_right_after_batch_norm_where_paths_were_meant() -> None:
    blocks = {"strides": [1, 2], "num_block_repeats": [2, 20], "expand_ratios": [1, 2], "kernel_sizes": [3, 3]}
    widths = {"in_channels": [32, 16], "out_channels": [16, 16], "hidden_dim": 1280, "width_coefficient": 1.0}
    model = build("EfficientNetForImageClassification", **blocks, **widths, depth_coefficient=0.1, depthwise_padding=[])
    site = "efficientnet.encoder.blocks.2.projection.dropout"
    assert found(model, pixel_values=torch.randn(2, 3, 32, 32)) == {("LD001", site), ("LD005", site)}


def test_speecht5_keeps_its_prenet_random_in_eval_and_drops_after_batch_norm() -> None:
    layers = {f"{part}_{what}": 1 for part in ("encoder", "decoder") for what in ("layers", "attention_heads")}
    widths = {f"{part}_ffn_dim": 16 for part in ("encoder", "decoder")}
    units = {f"speech_decoder_{part}_units": 16 for part in ("prenet", "postnet")}
    model = build(
        "SpeechT5ForTextToSpeech", vocab_size=64, hidden_size=16, **layers, **widths, **units, speaker_embedding_dim=8
    )
    spoken = {"decoder_input_values": torch.randn(2, 6, 80), "speaker_embeddings": torch.randn(2, 8)}
    postnet = {(code, f"speech_decoder_postnet.layers.{i}.dropout") for code in ("LD001", "LD005") for i in range(5)}
    prenet = ("LD008", "speecht5.decoder.prenet.config.speech_decoder_prenet_dropout")
    assert found(model, input_ids=IDS, **spoken) == postnet | {prenet}
