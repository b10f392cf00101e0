import pytest
import torch

from lightning_dropout.models import Transformer

TINY = {"num_layers": 2, "num_heads": 2, "dim": 16, "context_length": 12}


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = Transformer(11, **TINY, context_dim=8).eval()
    for parameter in network.parameters():
        parameter.data *= 4  # so that different inputs give different tokens
    return network


def test_the_context_and_its_mask_matter(network):
    ids, context = torch.randint(11, (2, 6)), torch.randn(2, 5, 8)
    mask = torch.tensor([True, True, True, False, False]).expand(2, -1)
    whole, masked = network(ids, context=context), network(ids, context=context, context_mask=mask)
    assert not torch.allclose(whole, masked)
    assert torch.allclose(masked, network(ids, context=context[:, :3]), atol=1e-5)


def test_generation_reads_the_context_once_and_equals_generation_without_cache(network):
    context, mask = torch.randn(2, 5, 8), torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    prompts = torch.tensor([[3, 1, 4], [1, 5, 9]])
    expected = prompts
    for _ in range(9):
        logits = network(expected, context=context, context_mask=mask)[:, -1]
        expected = torch.cat((expected, logits.argmax(-1, keepdim=True)), dim=1)
    num_reads = []
    network.blocks[0].cross_attention.key_value.register_forward_hook(lambda *args: num_reads.append(1))
    assert torch.equal(network.generate(prompts, 9, context=context, context_mask=mask), expected)
    assert len(num_reads) == 1


def test_a_missing_or_unwanted_context_is_refused(network):
    ids = torch.zeros(1, 3, dtype=torch.long)
    with pytest.raises(ValueError, match="given no context, but was built with context_dim=8"):
        network(ids)
    with pytest.raises(ValueError, match="given a context, but was built with context_dim=None"):
        Transformer(11, **TINY)(ids, context=torch.zeros(1, 2, 8))
