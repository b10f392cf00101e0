import json
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from lightning_dropout.models import Transformer, TransformerDropout

IDS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def llama(**options):
    shape = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}
    config = LlamaConfig(
        vocab_size=61,
        max_position_embeddings=96,
        initializer_range=0.2,
        **{**IDS, **shape, "num_key_value_heads": 2, **options},
    )
    return LlamaForCausalLM(config).eval()


def gpt2(**options):
    config = GPT2Config(
        vocab_size=61, n_layer=2, n_embd=32, n_head=4, n_positions=96, initializer_range=0.2, **{**IDS, **options}
    )
    return GPT2LMHeadModel(config).eval()


REFERENCES = {
    "llama": lambda: llama(),
    "llama tied": lambda: llama(tie_word_embeddings=True),
    "llama scaled": lambda: llama(rope_parameters=LLAMA3),
    "llama with biases": lambda: llama(attention_bias=True, mlp_bias=True),
    "llama without groups": lambda: llama(num_key_value_heads=4),
    "gpt2": lambda: gpt2(),
    "gpt2 untied": lambda: gpt2(tie_word_embeddings=False),
    "gpt2 exact gelu": lambda: gpt2(activation_function="gelu"),
}


@pytest.fixture(params=REFERENCES)
def reference(request):
    torch.manual_seed(0)
    model = REFERENCES[request.param]()
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "norm" in name:
            torch.nn.init.normal_(parameter, mean=float("norm" in name), std=0.2)  # or they would test nothing
    return model


def logits_of(model, ids):
    with torch.no_grad():
        output = model(ids)
    return output if isinstance(output, torch.Tensor) else output.logits


def test_logits_and_64_greedy_tokens_are_those_of_the_reference(reference, tmp_path):
    reference.save_pretrained(tmp_path)
    network = Transformer.from_pretrained(tmp_path).eval()
    ids = torch.randint(61, (2, 20))
    assert torch.allclose(logits_of(network, ids), logits_of(reference, ids), atol=1e-4)
    assert torch.equal(network.generate(ids, 64), reference.generate(ids, max_new_tokens=64, do_sample=False))


def test_the_reference_reads_what_is_saved(reference, tmp_path):
    reference.save_pretrained(tmp_path / "theirs")
    Transformer.from_pretrained(tmp_path / "theirs").save_pretrained(tmp_path / "ours")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "ours").eval()
    ids = torch.randint(61, (2, 20))
    assert type(again) is type(reference)
    assert torch.equal(logits_of(again, ids), logits_of(reference, ids))


def test_shards_are_joined(tmp_path):
    reference = llama()
    reference.save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    ids = torch.randint(61, (2, 20))
    assert torch.allclose(
        logits_of(Transformer.from_pretrained(tmp_path).eval(), ids), logits_of(reference, ids), atol=1e-4
    )


def test_bfloat16_stays_unless_another_dtype_is_asked_for(tmp_path):
    reference = llama().bfloat16()
    reference.save_pretrained(tmp_path)
    network = Transformer.from_pretrained(tmp_path).eval()
    ids = torch.randint(61, (2, 20))
    assert network.embedding.weight.dtype == torch.bfloat16
    assert torch.allclose(logits_of(network, ids), logits_of(reference, ids), atol=0.3)
    assert network.generate(ids, 3).shape == (2, 23)
    wide = Transformer.from_pretrained(tmp_path, dtype=torch.float32).eval()
    reference = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert torch.allclose(logits_of(wide, ids), logits_of(reference, ids), atol=1e-4)


def edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_older_settings_of_llama_are_read(tmp_path):
    reference = llama(rope_parameters=LLAMA3)
    reference.save_pretrained(tmp_path)
    scaling = {name: value for name, value in LLAMA3.items() if name != "rope_theta"}
    edit_config(tmp_path, rope_parameters=None, rope_theta=10000.0, rope_scaling=scaling)
    ids = torch.randint(61, (2, 20))
    assert torch.allclose(
        logits_of(Transformer.from_pretrained(tmp_path).eval(), ids), logits_of(reference, ids), atol=1e-4
    )


def test_older_names_of_gpt2_are_read(tmp_path):
    reference = gpt2()
    reference.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    older = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    older["h.0.attn.bias"] = torch.ones(1, 1, 96, 96)
    save_file(older, tmp_path / "model.safetensors")
    ids = torch.randint(61, (2, 20))
    assert torch.allclose(
        logits_of(Transformer.from_pretrained(tmp_path).eval(), ids), logits_of(reference, ids), atol=1e-4
    )


def test_rates_come_from_the_reference_from_our_own_folder_or_from_the_caller(tmp_path):
    gpt2(resid_pdrop=0.3, attn_pdrop=0.2).save_pretrained(tmp_path / "theirs")
    network = Transformer.from_pretrained(tmp_path / "theirs")
    assert network.config.dropout == TransformerDropout(attn=0.2, attn_sublayer=0.3, ff_sublayer=0.3)
    llama(attention_dropout=0.4).save_pretrained(tmp_path / "theirs")
    network = Transformer.from_pretrained(tmp_path / "theirs")
    assert network.blocks[0].attn.rate == 0.4
    rates = TransformerDropout(ff=0.25, path=0.1, attn_on="context")
    network = Transformer.from_pretrained(tmp_path / "theirs", dropout=rates)
    assert network.config.dropout == rates
    network.save_pretrained(tmp_path / "ours")
    assert Transformer.from_pretrained(tmp_path / "ours").config.dropout == rates


def test_a_loaded_network_trains(tmp_path):
    llama(tie_word_embeddings=True).save_pretrained(tmp_path)
    network = Transformer.from_pretrained(tmp_path)
    assert network.training
    network(torch.randint(61, (2, 20))).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.fixture
def folder(tmp_path):
    llama().save_pretrained(tmp_path)
    return tmp_path


def test_a_folder_without_config_is_refused(folder):
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match=r"has no config\.json"):
        Transformer.from_pretrained(folder)


def test_a_folder_without_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has neither model\.safetensors nor model\.safetensors\.index\.json"):
        Transformer.from_pretrained(folder)


def test_a_missing_shard_is_named(tmp_path):
    llama().save_pretrained(tmp_path, max_shard_size="10KB")
    shard = sorted(tmp_path.glob("*.safetensors"))[0]
    shard.unlink()
    with pytest.raises(ValueError, match=f"lacks the shard {shard.name}"):
        Transformer.from_pretrained(tmp_path)


def test_damaged_weights_are_refused(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        Transformer.from_pretrained(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "t5"}, "holds a model of type 't5', but Transformer reads gpt2 and llama"),
        ({"hidden_act": "relu"}, "hidden_act='relu', but Transformer can only follow 'silu'"),
        ({"head_dim": 16}, "head_dim=16, but Transformer can only follow 8"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type='yarn', but .* 'llama3'"),
        ({"num_hidden_layers": 3}, r"lacks the tensor 'model\.layers\.2\."),
        ({"num_hidden_layers": 1}, r"has the tensor 'model\.layers\.1\..*', for which Transformer has no place"),
        ({"vocab_size": 60}, r"embed_tokens\.weight of shape \(61, 32\) .* asks for \(60, 32\)"),
    ],
)
def test_what_cannot_be_followed_is_refused(folder, changes, message):
    edit_config(folder, **changes)
    with pytest.raises(ValueError, match=message):
        Transformer.from_pretrained(folder)


def test_neither_folder_nor_hub_is_one_line(monkeypatch):
    def offline(*args, **kwargs):
        raise ConnectionError("no route to the hub\nand more lines")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(ValueError, match=r"from_pretrained\('nobody/nothing'\) found no such folder") as error:
        Transformer.from_pretrained("nobody/nothing")
    assert "\n" not in str(error.value)


def test_a_missing_package_comes_with_the_command_that_installs_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(ImportError, match="pip install safetensors"):
        Transformer.from_pretrained(folder)


@pytest.mark.parametrize("options", [{"norm": "layer"}, {"norm_position": "post"}, {"context_dim": 8}])
def test_a_form_that_is_neither_is_not_saved(tmp_path, options):
    network = Transformer(61, num_layers=1, num_heads=2, dim=8, context_length=8, **options)
    with pytest.raises(
        ValueError, match=r"save_pretrained\(\) writes gpt2 and llama, but this Transformer has another"
    ):
        network.save_pretrained(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
