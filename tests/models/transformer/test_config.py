import pytest

from lightning_dropout.models import EncoderConfig, PatchConfig, Transformer, TransformerDropout

TINY = {"vocab_size": 11, "num_layers": 2, "num_heads": 2, "dim": 16, "context_length": 12}
CLASSES, PATCHES = EncoderConfig(num_classes=3), PatchConfig(image_size=8, patch_size=4)
IMAGES = {"vocab_size": None, "context_length": None, "encoder": CLASSES, "patches": PATCHES}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_heads": 3}, r"Transformer\(dim=16, num_heads=3\) makes no sense. The number of heads must divide"),
        ({"num_heads": 4, "num_kv_heads": 3}, r"\(num_heads=4, num_kv_heads=3\)"),
        ({"num_heads": 16}, r"\(position='rotary', dim=16, num_heads=16\).*even"),
        ({"num_layers": 0}, r"Transformer\(num_layers=0\): give a whole number from 1 on"),
        ({"num_kv_heads": 0}, r"Transformer\(num_kv_heads=0\): give a whole number from 1 on"),
        ({"num_layers": 1.5}, r"Transformer\(num_layers=1.5\): give a whole number from 1 on"),
        ({"dropout": 0.1}, r"Transformer\(dropout=0.1\): each site has a rate of its own. Give a TransformerDropout\("),
        ({"norm": "batch"}, r"Transformer\(norm='batch'\) is unknown. Give one of 'layer', 'rms'"),
        ({"position": "absolute"}, r"position='absolute'"),
        ({"vocab_size": None}, r"\(vocab_size=None, context_length=12\).*Give both for tokens, or patches"),
        ({"context_length": None}, r"\(vocab_size=11, context_length=None\)"),
        ({**IMAGES, "vocab_size": 11}, r"vocab_size=11, context_length=None, patches=Patch.*Images need patches alone"),
        ({**IMAGES, "encoder": None}, r"patches=.*encoder=None.*Only an encoder reads images"),
        ({**IMAGES, "encoder": EncoderConfig(3, padding_id=0)}, r"encoder\.padding_id=0.*Images have no padding"),
        ({"encoder": CLASSES, "tie_weights": True}, r"encoder=.*tie_weights=True"),
        ({"encoder": CLASSES, "context_dim": 8}, r"encoder=.*context_dim=8"),
        ({"dropout": TransformerDropout(cross_attn_tokens=0.1)}, r"dropout\.cross_attn_tokens=0\.1, context_dim=None"),
        ({"dropout": TransformerDropout(token_how="remove")}, r"dropout\.token_how='remove', encoder=None"),
        (
            {"encoder": CLASSES, "dropout": TransformerDropout(token_how="remove")},
            r"dropout\.token_how='remove', .*position='rotary'.*use 'mask'",
        ),
    ],
)
def test_combinations_without_sense_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Transformer(**{**TINY, **wrong})


def test_patches_must_tile_the_image():
    with pytest.raises(ValueError, match=r"PatchConfig\(image_size=8, patch_size=3\).*tile the image"):
        PatchConfig(image_size=8, patch_size=3)


def test_pooling_must_be_known():
    with pytest.raises(ValueError, match=r"EncoderConfig\(pooling='max'\) is unknown. Give one of 'class', 'mean'"):
        EncoderConfig(num_classes=3, pooling="max")
