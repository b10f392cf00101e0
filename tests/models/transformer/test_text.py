import json

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from lightning_dropout.models import TextGenerator, Transformer

WORDS = ["<begin>", "<user>", "<assistant>", "<stop>", "Hello", "world", "good", "night", "!"]
TEMPLATE = """{{ begin_token }}{% for message in messages %}
<{{ message.role }}> {{ message['content'] | trim }}
{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"""


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(3)
    network = Transformer(len(WORDS), num_layers=1, num_heads=2, dim=8, context_length=32)
    for parameter in network.parameters():
        parameter.data *= 4
    network.save_pretrained(tmp_path)
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="!"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.Metaspace(replacement=" ")
    tokenizer.add_special_tokens(WORDS[:4])
    tokenizer.post_processor = processors.TemplateProcessing(single="<begin> $A", special_tokens=[("<begin>", 0)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    settings = {"chat_template": TEMPLATE, "begin_token": {"content": "<begin>"}, "stop_token": "<stop>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    return tmp_path


def test_a_prompt_is_continued_from_its_tokens(folder):
    generator = TextGenerator.from_pretrained(folder)
    ids = generator.network.generate(torch.tensor([0, 4, 5]), 5)
    assert generator.generate("Hello world", 5) == generator.tokenizer.decode(ids[3:].tolist())


def test_prompts_of_different_lengths_are_continued_together(folder):
    generator = TextGenerator.from_pretrained(folder)
    prompts = ["Hello world", "good", "good night world"]
    assert generator.generate(prompts, 5) == [generator.generate(prompt, 5) for prompt in prompts]


def test_a_chat_is_written_by_the_template_and_begins_once(folder, monkeypatch):
    generator = TextGenerator.from_pretrained(folder)
    read = []
    generate = generator.network.generate
    monkeypatch.setattr(
        generator.network,
        "generate",
        lambda rows, *args, **kwargs: read.extend(rows) or generate(rows, *args, **kwargs),
    )
    reply = generator.chat([{"role": "user", "content": "Hello !"}], 4)
    assert read[0].tolist() == [0, 1, 4, 8, 2]
    assert reply == generator.tokenizer.decode(generate(read[0], 4)[5:].tolist())


def test_a_text_is_handed_on_while_it_is_written(folder):
    generator = TextGenerator.from_pretrained(folder)
    pieces, replies = [], []
    text = generator.generate("Hello world", 9, on_text=pieces.append)
    assert text == "".join(pieces) == generator.generate("Hello world", 9)
    assert len(pieces) > 3
    messages = [{"role": "user", "content": "Hello !"}]
    assert generator.chat(messages, 4, on_text=replies.append) == "".join(replies) == generator.chat(messages, 4)


def test_only_one_text_can_be_handed_on(folder):
    with pytest.raises(ValueError, match=r"generate\(on_text=\.\.\.\) was given 2 prompts\. Give one"):
        TextGenerator.from_pretrained(folder).generate(["Hello", "good"], 2, on_text=print)


@pytest.mark.parametrize(
    ("file", "eos", "stop_ids"),
    [("generation_config.json", [3, 8], (3, 8)), ("generation_config.json", 3, (3,)), ("config.json", 8, (8,))],
)
def test_stop_tokens_are_read(folder, file, eos, stop_ids):
    path = folder / file
    contents = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**contents, "eos_token_id": eos}))
    assert TextGenerator.from_pretrained(folder).stop_ids == stop_ids


def test_a_text_ends_at_a_stop_token(folder):
    generator = TextGenerator.from_pretrained(folder)
    whole = generator.network.generate(torch.tensor([0, 4, 5]), 6).tolist()
    generator.stop_ids = (whole[4],)
    assert generator.generate("Hello world", 6) == generator.tokenizer.decode(whole[3 : whole.index(whole[4], 3) + 1])


def test_chat_without_template_is_refused(folder):
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(ValueError, match=r"chat\(\) needs a chat template, and this checkpoint has none"):
        TextGenerator.from_pretrained(folder).chat([{"role": "user", "content": "Hello"}], 4)


def test_a_folder_without_tokenizer_is_refused(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"has no tokenizer\.json"):
        TextGenerator.from_pretrained(folder)
