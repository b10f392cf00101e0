import math

import pytest
import torch
import torch.nn.functional as F
from torchmetrics.text import Perplexity as ReferencePerplexity

from lightning_dropout.modules.likelihood import BitsPerToken, Perplexity


def test_equal_torchmetrics_over_batches_of_different_sizes():
    reference, perplexity, bits = ReferencePerplexity(ignore_index=-100), Perplexity(), BitsPerToken()
    for batch_size in (2, 5):
        logits, targets = torch.randn(batch_size, 8, 11), torch.randint(11, (batch_size, 8))
        targets[0, 5:] = -100
        reference.update(logits, targets)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        for metric in (perplexity, bits):
            metric.update(loss, (targets != -100).sum())
    torch.testing.assert_close(perplexity.compute(), reference.compute())
    torch.testing.assert_close(bits.compute(), reference.compute().log() / math.log(2))


def test_a_target_that_the_model_rules_out_costs_what_it_costs():
    """Where softmax underflows, torchmetrics says infinity."""
    logits, target = torch.tensor([[[0.0, 120.0]]]), torch.tensor([[0]])
    assert ReferencePerplexity()(logits, target).isinf()
    bits = BitsPerToken()
    bits.update(F.cross_entropy(logits[0], target[0]), 1)
    assert bits.compute().item() == pytest.approx(120 / math.log(2))
