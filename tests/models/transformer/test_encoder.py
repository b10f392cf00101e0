import pytest
import torch

from lightning_dropout.models import EncoderConfig, PatchConfig, Transformer

TINY = {"num_layers": 2, "num_heads": 2, "dim": 16}


@pytest.mark.parametrize("position", ["learned", "sinusoidal", "rotary"])
@pytest.mark.parametrize("pooling", ["class", "mean"])
def test_padding_changes_nothing(position, pooling):
    encoder = EncoderConfig(num_classes=3, pooling=pooling, padding_id=0)
    network = Transformer(11, **TINY, context_length=12, position=position, encoder=encoder).eval()
    short = torch.randint(1, 11, (2, 7))
    padded = torch.nn.functional.pad(short, (0, 5))
    assert torch.allclose(network(short), network(padded), atol=1e-6)
    mask = torch.arange(12) < 7
    garbage = padded + 5 * ~mask
    assert torch.allclose(network(short), network(garbage, mask=mask.expand(2, -1)), atol=1e-6)


@pytest.mark.parametrize("pooling", ["class", "mean"])
def test_an_empty_text_is_no_nan(pooling):
    encoder = EncoderConfig(num_classes=3, pooling=pooling, padding_id=0)
    network = Transformer(11, **TINY, context_length=12, encoder=encoder)
    logits = network(torch.tensor([[0, 0, 0], [1, 2, 0]]))
    logits.sum().backward()
    assert torch.isfinite(logits).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())


def test_an_encoder_sees_both_sides():
    network = Transformer(11, **TINY, context_length=12, encoder=EncoderConfig(num_classes=3)).eval()
    ids = torch.randint(11, (1, 12))
    states = []
    network.norm.register_forward_hook(lambda module, args, output: states.append(output))
    network(ids)
    network(torch.cat((ids[:, :-1], (ids[:, -1:] + 1) % 11), dim=1))
    assert not torch.allclose(states[0][:, 1], states[1][:, 1])


def test_images_become_patches_in_reading_order():
    network = Transformer(
        **TINY, encoder=EncoderConfig(3, pooling="mean"), patches=PatchConfig(image_size=4, patch_size=2, in_channels=1)
    )
    image = torch.arange(16.0).view(1, 1, 4, 4)
    torch.nn.init.eye_(network.embedding.projection.weight)
    assert network.embedding(image)[0, :, :4].tolist() == [
        [0.0, 1.0, 4.0, 5.0], [2.0, 3.0, 6.0, 7.0], [8.0, 9.0, 12.0, 13.0], [10.0, 11.0, 14.0, 15.0]
    ]  # fmt: skip


def test_the_order_of_patches_matters():
    patches = PatchConfig(image_size=8, patch_size=4)
    network = Transformer(**TINY, position="learned", encoder=EncoderConfig(3), patches=patches).eval()
    images = torch.randn(2, 3, 8, 8)
    assert network(images).shape == (2, 3)
    assert not torch.allclose(network(images), network(images.flip(-1)))


def test_images_of_another_shape_are_refused():
    network = Transformer(**TINY, encoder=EncoderConfig(3), patches=PatchConfig(image_size=8, patch_size=4))
    with pytest.raises(ValueError, match=r"images of shape \(1, 8, 8\).*need \(3, 8, 8\)"):
        network(torch.zeros(2, 1, 8, 8))


def test_too_many_tokens_are_refused_with_the_class_token_not_counted():
    network = Transformer(11, **TINY, context_length=12, encoder=EncoderConfig(3))
    assert network(torch.zeros(1, 12, dtype=torch.long)).shape == (1, 3)
    with pytest.raises(ValueError, match="13 tokens, more than its context_length of 12"):
        network(torch.zeros(1, 13, dtype=torch.long))


def test_an_encoder_does_not_generate():
    network = Transformer(11, **TINY, context_length=12, encoder=EncoderConfig(3)).eval()
    with pytest.raises(ValueError, match=r"generate\(\) needs a decoder"):
        network.generate(torch.tensor([1]), 2)
