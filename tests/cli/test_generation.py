import io
import json
import sys

import pytest
import torch

from lightning_dropout import LanguageModel, TextData, Transformer
from lightning_dropout.cli.export import export_folder
from lightning_dropout.cli.main import main

TEMPLATE = "{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor %}a:"


@pytest.fixture(autouse=True)
def _workplace(workplace):
    pass


@pytest.fixture
def folder(workplace, text):
    """A checkpoint folder with a chat template, as a run leaves it with ``run.export``."""
    torch.manual_seed(0)
    data = TextData(text, context_length=8, batch_size=4)
    network = Transformer(data.vocab_size, num_layers=1, num_heads=2, dim=16, context_length=64)
    export_folder(LanguageModel(network), data, workplace / "llama")
    (workplace / "llama/tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    return "llama"


def written(arguments, capsys):
    assert main(["generate", *map(str, arguments)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_a_run_writes_what_its_best_checkpoint_does(finished_run, capsys):
    prompt, checkpoint = "Hello", finished_run / "checkpoints/best.ckpt"
    state = torch.load(checkpoint, weights_only=True)["TextData"]["vocabulary"]
    ids = torch.tensor([state.index(character) for character in prompt])
    model = LanguageModel.load_from_checkpoint(checkpoint, weights_only=True)
    generator = torch.Generator().manual_seed(3)
    expected = model.generate(ids, 30, temperature=0.5, top_k=20, top_p=0.9, generator=generator)
    options = ["--prompt", prompt, "--num-tokens=30", "--temperature=0.5", "--top-k=20", "--top-p=0.9", "--seed=3"]
    for path in (finished_run.parent, finished_run, checkpoint):
        assert written([path, *options], capsys) == "".join(state[token] for token in expected) + "\n"


def test_the_likeliest_tokens_need_no_seed(finished_run, capsys):
    greedy = [finished_run, "--prompt=Hello", "--num-tokens=20"]
    assert written([*greedy, "--temperature=0"], capsys) == written([*greedy, "--temperature=0", "--seed=1"], capsys)
    assert written(greedy, capsys) != written([*greedy, "--seed=1"], capsys)


def test_a_long_prompt_is_printed_whole_and_its_end_is_continued(finished_run, capsys):
    long = "A prompt longer than the eight characters that it sees"
    out = written([finished_run, "--prompt", long, "--num-tokens=20"], capsys)
    assert out == long[:-8] + written([finished_run, "--prompt", long[-8:], "--num-tokens=20"], capsys)


def test_text_comes_while_it_is_written(finished_run, monkeypatch):
    pieces = []

    class Terminal(io.StringIO):
        def write(self, piece):
            pieces.append(piece)
            return len(piece)

    monkeypatch.setattr(sys, "stdout", Terminal())
    assert main(["generate", str(finished_run), "--prompt=Hello", "--num-tokens=12"]) == 0
    assert 12 <= sum(len(piece) == 1 and piece != "\n" for piece in pieces) <= len("".join(pieces))


def test_nothing_to_add_leaves_the_prompt(finished_run, capsys):
    assert written([finished_run, "--prompt=Hello", "--num-tokens=0"], capsys) == "Hello\n"


def test_a_checkpoint_folder_writes_through_its_own_tokenizer(folder, capsys):
    out = written([folder, "--prompt=Hello", "--num-tokens=10"], capsys)
    assert (out[:5], len(out)) == ("Hello", 16)


def test_a_chat_is_answered(folder, capsys):
    reply = written([folder, "--chat", "--prompt=Hello", "--num-tokens=6"], capsys)
    assert written([folder, "--prompt=u:Hello;a:", "--num-tokens=6"], capsys) == f"u:Hello;a:{reply}"


def test_a_conversation_remembers_what_was_said(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("Hello\nAgain\n"))
    replies = written([folder, "--chat", "--num-tokens=6", "--temperature=0"], capsys).splitlines()
    assert len(replies) == 2
    whole = f"u:Hello;a:{replies[0]};u:Again;a:"
    assert written([folder, "--prompt", whole, "--num-tokens=6", "--temperature=0"], capsys) == f"{whole}{replies[1]}\n"


def test_an_interrupt_ends_the_text(finished_run, capsys, monkeypatch):
    def interrupted(*args, on_tokens, **options):
        on_tokens(torch.tensor([1]))
        raise KeyboardInterrupt

    monkeypatch.setattr(Transformer, "generate", interrupted)
    assert written([finished_run, "--prompt=Hello"], capsys) == "Hello!\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is no PATH. See `lightning-dropout generate --help`."),
        (["RUN"], "there is no --prompt. Give a text to continue, or --chat to talk."),
        (["RUN", "--prompt="], "generate() was given an empty prompt."),
        (["RUN", "--chat"], "has no chat template. Leave out --chat."),
        (["RUN", "--prompt=x", "--num-tokens=many"], "--num-tokens: found 'many'. Give a whole number."),
        (["RUN", "--prompt=x", "--num-tokens=-1"], "generate(max_new_tokens=-1) is negative."),
        (["RUN", "--prompt=x", "--temperature=hot"], "--temperature: found 'hot'. Give a number."),
        (["RUN", "--prompt=x", "--top-p=2"], "top_p=2.0 is no probability above 0."),
        (["RUN", "--prompt=x", "--device=abacus"], "--device abacus: "),
        (["RUN", "--prom=x"], "there is no option '--prom'. Did you mean '--prompt'?"),
        (["nowhere", "--prompt=x"], "there is no 'nowhere'. Give a checkpoint, or the folder of a run or of a"),
        (["empty", "--prompt=x"], "empty holds neither checkpoints/*.ckpt nor a config.json. Give the folder of a run"),
        (["other.ckpt", "--prompt=x"], "other.ckpt is of mine.Model without TextData. Give a checkpoint of a language"),
        (["text.ckpt", "--prompt=x"], "text.ckpt is no checkpoint, or one that was cut off."),
    ],
)
def test_bad_input_is_one_line(arguments, message, workplace, finished_run, capsys):
    (workplace / "empty").mkdir()
    (workplace / "text.ckpt").write_text("none")
    torch.save({"state_dict": {}, "hyper_parameters": {"_class_path": "mine.Model"}}, "other.ckpt")
    assert main(["generate", *(str(finished_run) if word == "RUN" else word for word in arguments)]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert (out, err.count("\n")) == ("", 1)


class Bigram(torch.nn.Module):
    """A network that is no Transformer."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(9, 9)

    def forward(self, ids):
        return self.table(ids)


def test_a_network_of_others_is_refused_by_its_name(workplace, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "own_networks", sys.modules[__name__])
    hyperparameters = {"network": {"class_path": "own_networks.Bigram", "init_args": {}}}
    hyperparameters["_class_path"] = "lightning_dropout.LanguageModel"
    hyperparameters["_instantiator"] = "lightning.pytorch.cli.instantiate_module"
    checkpoint = {"hyper_parameters": hyperparameters, "state_dict": LanguageModel(Bigram()).state_dict()}
    torch.save({**checkpoint, "pytorch-lightning_version": "2.6.0", "TextData": {"vocabulary": "ab"}}, "other.ckpt")
    assert main(["generate", "other.ckpt", "--prompt=a"]) == 2
    err = capsys.readouterr().err
    assert "other.ckpt is of a Bigram, but this takes a Transformer. Give the folder that the run exported." in err
    assert err.count("\n") == 1
