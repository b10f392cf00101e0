import pytest
import torch
from torch import nn

from lightning_dropout.models import Transformer, TransformerDropout

FORM = {"position": "sinusoidal", "norm": "layer", "activation": "relu", "bias": True}


def copy(target, source):
    for parameter, value in zip(target.parameters(), source, strict=True):
        parameter.data.copy_(value)


@pytest.mark.parametrize("norm_position", ["pre", "post"])
@pytest.mark.parametrize("has_context", [False, True])
def test_a_block_equals_the_layer_of_torch(norm_position, has_context):
    layer_class = nn.TransformerDecoderLayer if has_context else nn.TransformerEncoderLayer
    reference = layer_class(
        16, 4, dim_feedforward=64, batch_first=True, norm_first=norm_position == "pre", dropout=0.0
    ).train()
    for parameter in reference.parameters():
        nn.init.normal_(parameter, std=0.3)
    network = Transformer(
        11,
        num_layers=1,
        num_heads=4,
        dim=16,
        context_length=6,
        norm_position=norm_position,
        context_dim=16 if has_context else None,
        dropout=TransformerDropout(emb=0.0, attn=0.0, attn_sublayer=0.0, ff_sublayer=0.0),
        **FORM,
    )
    block = network.blocks[0]
    norms = [block.attention_norm, *([block.cross_attention_norm] if has_context else []), block.feed_forward_norm]
    for index, norm in enumerate(norms, 1):
        copy(norm, getattr(reference, f"norm{index}").parameters())
    mine, theirs = block.attention, reference.self_attn
    copy(mine.qkv, [theirs.in_proj_weight, theirs.in_proj_bias])
    copy(mine.output, theirs.out_proj.parameters())
    copy(block.feed_forward.input, reference.linear1.parameters())
    copy(block.feed_forward.output, reference.linear2.parameters())
    if has_context:
        mine, theirs = block.cross_attention, reference.multihead_attn
        copy(mine.query, [theirs.in_proj_weight[:16], theirs.in_proj_bias[:16]])
        copy(mine.key_value, [theirs.in_proj_weight[16:], theirs.in_proj_bias[16:]])
        copy(mine.output, theirs.out_proj.parameters())
    ids, context = torch.randint(11, (2, 6)), torch.randn(2, 5, 16) if has_context else None
    inputs, outputs = [], []

    def remember(module, args, output):
        inputs.append(args[0])
        outputs.append(output)

    block.register_forward_hook(remember)
    network(ids, context=context)
    causal = nn.Transformer.generate_square_subsequent_mask(6)
    if has_context:
        expected = reference(inputs[0], context, tgt_mask=causal, tgt_is_causal=True)
    else:
        expected = reference(inputs[0], src_mask=causal, is_causal=True)
    assert torch.allclose(outputs[0], expected, atol=1e-5)


def test_sublayer_norm_stands_on_the_branch():
    network = Transformer(
        11, num_layers=1, num_heads=2, dim=16, context_length=6, norm_position="sublayer", **FORM
    ).eval()
    block = network.blocks[0]
    seen = {}

    def remember(name):
        def hook(module, args, output):
            seen[name] = args[0], output

        return hook

    for name in ("attention", "attention_norm", "feed_forward"):
        block.get_submodule(name).register_forward_hook(remember(name))
    network(torch.randint(11, (2, 6)))
    (x, attended), (branch, normed), (hidden, _) = (
        seen[name] for name in ("attention", "attention_norm", "feed_forward")
    )
    assert torch.equal(branch, attended)
    assert torch.equal(hidden, x + normed)
