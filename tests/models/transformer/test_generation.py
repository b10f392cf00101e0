import pytest
import torch

from lightning_dropout.models import Transformer, TransformerDropout

FORMS = {
    "llama": {},
    "grouped": {"num_kv_heads": 1},
    "gpt2": {"position": "learned", "norm": "layer", "activation": "gelu", "bias": True, "tie_weights": False},
}


@pytest.fixture(params=FORMS)
def network(request):
    torch.manual_seed(0)
    network = Transformer(23, num_layers=2, num_heads=2, dim=16, context_length=12, **FORMS[request.param]).eval()
    for parameter in network.parameters():
        parameter.data *= 4  # so that different inputs give different tokens
    return network


def continue_without_cache(network, prompt, num_tokens, context_length=12):
    """The definition: the likeliest token, over a window whose latest half stays whenever it is full."""
    text, start = prompt, 0
    for _ in range(num_tokens):
        if len(text) - start > context_length:
            start = len(text) - context_length // 2
        text = torch.cat((text, network(text[None, start:])[0, -1:].argmax(-1)))
    return text


@pytest.mark.parametrize("num_tokens", [1, 9, 30])
def test_tokens_with_the_cache_equal_those_without(network, num_tokens):
    prompt = torch.tensor([3, 1, 4])
    text = network.generate(prompt, num_tokens)
    assert len(text.unique()) > 1
    assert torch.equal(text, continue_without_cache(network, prompt, num_tokens))


def test_a_prompt_is_read_once(network):
    read = []
    network.embedding.register_forward_hook(lambda module, args, output: read.append(args[0].shape[1]))
    network.generate(torch.tensor([3, 1, 4]), 5)
    assert read == [3, 1, 1, 1, 1]


def test_a_batch_of_prompts_of_different_lengths_gives_the_texts_of_each_alone(network):
    prompts = [torch.randint(23, (length,)) for length in (5, 1, 12, 8)]
    texts = network.generate(prompts, 20)
    assert [len(text) for text in texts] == [25, 21, 32, 28]
    for prompt, text in zip(prompts, texts, strict=True):
        assert torch.equal(text, network.generate(prompt, 20))


def test_a_text_ends_with_its_first_stop_token(network):
    prompts = torch.tensor([[3, 1, 4], [1, 5, 9]])
    texts = network.generate(prompts, 8)
    stop_ids = [texts[0, 5].item(), texts[1, 8].item()]
    ends = [next(i for i in range(3, 11) if row[i] in stop_ids) + 1 for row in texts.tolist()]
    stopped = network.generate(list(prompts), 8, stop_ids=stop_ids)
    for text, end, whole in zip(stopped, ends, texts, strict=True):
        assert torch.equal(text, whole[:end])
    filled = network.generate(prompts, 8, stop_ids=stop_ids)
    assert filled.shape == (2, max(ends))
    for row, text in zip(filled, stopped, strict=True):
        assert torch.equal(row[: len(text)], text)
        assert (row[len(text) :] == text[-1]).all()


def test_eval_is_deterministic_whatever_the_rates_are(network):
    text = network.generate(torch.tensor([3, 1, 4]), 8)
    network.emb.rate = 1.0
    network.blocks[0].attn.rate = 0.9
    assert torch.equal(network.generate(torch.tensor([3, 1, 4]), 8), text)


def test_dropout_must_be_asked_for():
    network = Transformer(23, num_layers=1, num_heads=1, dim=8, context_length=8)
    with pytest.raises(RuntimeError, match=r"dropout active at 4 sites, 'emb' among them\. Call \.eval\(\) first"):
        network.generate(torch.tensor([1]), 2)
    assert len(network.generate(torch.tensor([1]), 2, allow_dropout=True)) == 3


def test_training_mode_without_dropout_may_generate():
    none = TransformerDropout(emb=0.0, attn=0.0, attn_sublayer=0.0, ff_sublayer=0.0)
    network = Transformer(23, num_layers=1, num_heads=1, dim=8, context_length=8, dropout=none)
    assert len(network.generate(torch.tensor([1]), 2)) == 3


def test_no_new_token_gives_the_prompt_back(network):
    assert torch.equal(network.generate(torch.tensor([3, 1, 4]), 0), torch.tensor([3, 1, 4]))


def test_generation_under_autocast(network):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert len(network.generate(torch.tensor([3, 1, 4]), 15)) == 18


def test_sampling_follows_its_generator_and_top_k_1_is_greedy(network):
    prompt = torch.tensor([3, 1, 4])
    first, again, other = (
        network.generate(prompt, 9, temperature=2.0, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(network.generate(prompt, 9, temperature=2.0, top_k=1), network.generate(prompt, 9))


def test_tokens_are_told_as_they_are_chosen(network):
    prompts, columns = [torch.tensor([3, 1, 4]), torch.tensor([1, 5])], []
    options = {"temperature": 1.0, "stop_ids": (7,)}
    generator = torch.Generator().manual_seed(0)
    told = network.generate(prompts, 20, **options, generator=generator, on_tokens=columns.append)
    untold = network.generate(prompts, 20, **options, generator=torch.Generator().manual_seed(0))
    for row, (prompt, text, same) in enumerate(zip(prompts, told, untold, strict=True)):
        assert torch.equal(text, same)
        new = text[len(prompt) :]
        assert [int(column[row]) for column in columns[: len(new)]] == new.tolist()


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        (torch.zeros(13, dtype=torch.long), {}, "prompt of 13 tokens, more than context_length=12"),
        (torch.zeros(0, dtype=torch.long), {}, "an empty prompt"),
        ([], {}, "no prompt"),
        (torch.tensor([1]), {"max_new_tokens": -1}, r"generate\(max_new_tokens=-1\) is negative"),
        (torch.tensor([1]), {"temperature": -1.0}, r"temperature=-1\.0 is negative"),
        (torch.tensor([1]), {"temperature": 1.0, "top_k": 0}, "top_k=0"),
        (torch.tensor([1]), {"temperature": 1.0, "top_p": 1.5}, r"top_p=1\.5"),
    ],
)
def test_bad_input_is_refused(network, prompt, options, message):
    with pytest.raises(ValueError, match=message):
        network.generate(prompt, **{"max_new_tokens": 2, **options})


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        (torch.tensor([1.7, 2.2]), "torch.float32 of 1 dimensions"),
        (torch.ones(1, 2, 3, dtype=torch.long), "torch.int64 of 2 dimensions"),
        ([1, 2], "1"),
    ],
)
def test_a_prompt_that_holds_no_token_ids_is_refused(prompt, found):
    network = Transformer(11, num_layers=1, num_heads=2, dim=8, context_length=8).eval()
    with pytest.raises(ValueError, match=f"found a prompt that is {found}. Give token ids"):
        network.generate(prompt, 2)
