import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer

import lightning_dropout as ld
from lightning_dropout.data import TextClassificationData

NUM_DOCUMENTS = 30
LABELS = ["even", "odd"]


@pytest.fixture
def path(tmp_path):
    """Every character of document 3 is the fourth letter, and so on."""
    letters = [chr(ord("a") + index) for index in range(NUM_DOCUMENTS)]
    texts = [letter * (5 + 4 * index) for index, letter in enumerate(letters)]
    labels = [LABELS[index % 2] for index in range(NUM_DOCUMENTS)]
    pd.DataFrame({"body": texts, "label": labels}).to_json(tmp_path / "texts.jsonl", orient="records", lines=True)
    return str(tmp_path / "texts.jsonl")


def small(path, **kwargs):
    return TextClassificationData(path, **{"text_column": "body", "context_length": 10, "batch_size": 4, **kwargs})


def read(loader):
    batches = list(loader)
    return torch.cat([ids for ids, _ in batches]), torch.cat([labels for _, labels in batches])


@pytest.mark.parametrize("tokenizer", ["char", "byte"])
def test_passages_have_the_label_of_their_document_and_padding_is_0(path, tokenizer):
    data = small(path, tokenizer=tokenizer, batch_size=1000)
    seen = {}
    for part, loader in (("train", data.train_dataloader()), ("val", data.val_dataloader())):
        ids, labels = read(loader)
        assert (ids.shape[1], ids.dtype, labels.dtype) == (10, torch.int64, torch.int64)
        for passage, label in zip(ids, labels, strict=True):
            text = data.decode(passage)
            if tokenizer == "char" and part == "val":
                assert set(text) == {"\ufffd"}
                continue
            number = ord(text[0]) - ord("a")
            assert text == text[0] * min(10, 5 + 4 * number)
            assert (passage[len(text) :] == 0).all()
            assert data.classes[label] == LABELS[number % 2]
            seen.setdefault(number, []).append(part)
    for number, parts in seen.items():
        assert len(set(parts)) == 1
        assert len(parts) == max(1, (5 + 4 * number) // 10)
    assert len(seen) == (24 if tokenizer == "char" else 30)


def test_the_tokens_of_a_text_come_back(path):
    data = small(path, tokenizer="byte")
    assert data.vocab_size == 257
    assert data.encode("A").tolist() == [66]
    assert data.decode(torch.cat([data.encode("née"), torch.zeros(3, dtype=torch.int64)])) == "née"


def test_as_many_passages_are_taken_as_asked_for(path):
    data = small(path, tokenizer="byte", max_passages=2, batch_size=1000)
    ids, _ = read(data.train_dataloader())
    assert ids[:, 0].bincount().max() == 2


def test_the_default_is_speeches_split_by_document():
    data = TextClassificationData(context_length=128, max_passages=3)
    assert data.classes == ("18th", "19th", "20th", "21st")
    assert data.num_classes == 4
    counts = [read(loader)[1].bincount(minlength=4) for loader in (data.train_dataloader(), data.val_dataloader())]
    assert (counts[1] > 0).all()
    assert 0.15 < counts[1].sum() / (counts[0].sum() + counts[1].sum()) < 0.25
    assert "Whig" in TextClassificationData(label_column="party", context_length=128, max_passages=1).classes


def test_split_and_order_depend_on_the_seed_and_not_on_the_global_random_state(path):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = read(small(path).train_dataloader())[0]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(read(small(path).train_dataloader())[0], first)
    assert not torch.equal(read(small(path, seed=1, batch_size=4).train_dataloader())[0], first)


def test_an_encoder_trains_on_it_and_the_checkpoint_has_the_tokenizer(path, tmp_path):
    data = small(path)
    network = ld.Transformer(
        data.vocab_size,
        num_layers=1,
        num_heads=1,
        dim=8,
        context_length=10,
        encoder=ld.EncoderConfig(num_classes=data.num_classes, padding_id=0),
    )
    trainer = Trainer(
        accelerator="cpu",
        max_steps=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(ld.Classifier(network, num_classes=2), datamodule=data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    loaded = TextClassificationData.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True, path="gone.csv")
    assert (loaded.tokenizer, loaded.classes) == (data.tokenizer, data.classes)
    assert torch.equal(loaded.encode("abz?"), data.encode("abz?"))
    other = small(path, tokenizer="byte")
    other.setup()
    message = r"^TextClassificationData: the checkpoint has \d+ tokens and the classes even, odd, the texts 257 and "
    with pytest.raises(ValueError, match=message):
        other.load_state_dict(data.state_dict())


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"text_column": "text"}, r"^TextClassificationData\(text_column='text'\): no such column\. Found: 'body'"),
        ({"label_column": "sort"}, r"^TextClassificationData\(label_column='sort'\): no such column\. Found: 'body'"),
        ({"context_length": 0}, r"^TextClassificationData\(context_length\): found 0\. Give a whole number from 1"),
        ({"max_passages": 0}, r"^TextClassificationData\(max_passages\): found 0\. Give a whole number from 1"),
        ({"tokenizer": "words"}, r"^TextClassificationData\(tokenizer='words'\): not found\. Give char, byte,"),
    ],
)  # fmt: skip
def test_bad_values_are_refused_in_one_line(path, kwargs, message):
    with pytest.raises(ValueError, match=message) as raised:
        small(path, **kwargs).setup()
    assert "\n" not in str(raised.value)
