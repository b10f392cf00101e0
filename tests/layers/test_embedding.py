import torch
from torch import nn

from lightning_dropout.layers import EmbeddingDropout


def test_a_dropped_word_is_dropped_wherever_it_stands():
    embedding, ids = nn.Embedding(50, 8), torch.randint(50, (16, 40))
    vectors = EmbeddingDropout(0.5)(embedding, ids)
    kept = vectors.abs().amax(dim=-1) > 0
    words_kept, words_dropped = set(ids[kept].tolist()), set(ids[~kept].tolist())
    assert words_kept
    assert words_dropped
    assert not words_kept & words_dropped
    torch.testing.assert_close(vectors[kept], 2 * embedding(ids)[kept])


def test_a_dropped_word_gets_no_gradient():
    embedding, ids = nn.Embedding(50, 8), torch.arange(50)
    vectors = EmbeddingDropout(0.5)(embedding, ids)
    vectors.sum().backward()
    assert embedding.weight.grad.equal(torch.where(vectors != 0, 2.0, 0.0))


def test_what_the_embedding_does_stays():
    embedding = nn.Embedding(10, 4, padding_idx=0)
    vectors = EmbeddingDropout(0.5)(embedding, torch.tensor([[0, 3]]))
    assert not vectors[0, 0].any()
    vectors.sum().backward()
    assert not embedding.weight.grad[0].any()
