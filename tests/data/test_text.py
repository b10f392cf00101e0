import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningCLI

from lightning_dropout.data import CharTokenizer, TextData

# Every position can be told from the characters around it.
TEXT = " ".join(str(number) for number in range(1000))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "numbers.txt"
    path.write_text(TEXT)
    return str(path)


class Reader(LightningModule):
    """Learns nothing to speak of, and keeps the batches that it was given."""

    def __init__(self, vocab_size: int = 12) -> None:
        super().__init__()
        self.scores = torch.nn.Parameter(torch.zeros(vocab_size))
        self.seen = {"train": [], "val": []}

    def training_step(self, batch, batch_idx):
        self.seen["train"].append(batch[0].tolist())
        return torch.nn.functional.cross_entropy(self.scores.expand(batch[1].numel(), -1), batch[1].flatten())

    def validation_step(self, batch, batch_idx):
        self.seen["val"].append(batch[0].tolist())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def trainer(**kwargs):
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(**{"accelerator": "cpu", "max_epochs": 1, "num_sanity_val_steps": 0, **quiet, **kwargs})


def small(path, **kwargs):
    return TextData(path, **{"context_length": 16, "batch_size": 8, **kwargs})


def test_batches_are_pieces_of_the_right_part_of_the_text(path):
    data = small(path, val_fraction=0.25)
    cut = int(len(TEXT) * 0.75)
    train, val = list(data.train_dataloader()), list(data.val_dataloader())
    assert {(x.shape, x.dtype) for batch in train + val for x in batch} == {(torch.Size([8, 16]), torch.int64)}
    for part, batches in ((TEXT[:cut], train), (TEXT[cut:], val)):
        for inputs, targets in batches:
            for window, target in zip(inputs, targets, strict=True):
                assert data.decode(window) + data.decode(target)[-1] in part
                assert data.decode(target[:-1]) == data.decode(window[1:])
    assert data.decode(torch.cat([inputs.flatten() for inputs, _ in val])) == TEXT[cut:][: len(val) * 8 * 16]
    assert len(train) == (cut - 1) // 16 // 8


def test_characters_of_validation_alone_are_unknown(tmp_path):
    (tmp_path / "text.txt").write_text("ab" * 90 + "xy" * 10)
    data = TextData(str(tmp_path / "text.txt"), context_length=4, batch_size=2)
    assert data.tokenizer.vocabulary == "\ufffdab"
    assert all((inputs == 0).all() for inputs, _ in data.val_dataloader())
    assert data.decode(data.encode("axb")) == "a\ufffdb"


def test_a_short_validation_text_gives_a_smaller_batch(path):
    data = small(path, batch_size=64, val_fraction=0.05)
    (batch,) = data.val_dataloader()
    assert batch[0].shape == ((len(TEXT) - int(len(TEXT) * 0.95) - 1) // 16, 16)


def test_the_fit_changes_order_every_epoch_and_leaves_the_global_random_state_alone(path):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, second = Reader(), Reader()
    trainer(max_epochs=2).fit(first, datamodule=small(path))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    trainer(max_epochs=2).fit(second, datamodule=small(path))
    assert first.seen == second.seen
    num_batches = len(first.seen["train"]) // 2
    assert first.seen["train"][:num_batches] != first.seen["train"][num_batches:]
    assert first.seen["val"][: len(first.seen["val"]) // 2] == first.seen["val"][len(first.seen["val"]) // 2 :]
    other = Reader()
    trainer().fit(other, datamodule=small(path, seed=1))
    assert other.seen["train"] != first.seen["train"][:num_batches]


def test_workers_give_the_same_batches(path):
    alone, helped = Reader(), Reader()
    for reader, num_workers in ((alone, 0), (helped, 2)):
        trainer(max_epochs=2).fit(reader, datamodule=small(path, max_chars=1000, num_workers=num_workers))
    assert alone.seen == helped.seen


@pytest.mark.filterwarnings("ignore:You requested to overfit but enabled")
def test_overfit_batches_repeats_its_batches(path):
    reader = Reader()
    trainer(max_epochs=2, overfit_batches=2).fit(reader, datamodule=small(path))
    assert reader.seen["train"][:2] == reader.seen["train"][2:]


def test_the_checkpoint_carries_the_vocabulary(path, tmp_path):
    checkpoint = tmp_path / "last.ckpt"
    fit = trainer()
    fit.fit(Reader(), datamodule=small(path))
    fit.save_checkpoint(checkpoint)
    (tmp_path / "other.txt").write_text("0x1" * 200)

    loaded = TextData.load_from_checkpoint(checkpoint, weights_only=True, files="gone.txt")
    assert loaded.vocab_size == 12
    assert loaded.decode(loaded.encode("12 x")) == "12 \ufffd"

    other = TextData.load_from_checkpoint(checkpoint, weights_only=True, files=str(tmp_path / "other.txt"))
    trainer().validate(Reader(), datamodule=other, ckpt_path=checkpoint, weights_only=True, verbose=False)
    assert other.decode(next(iter(other.val_dataloader()))[0][0]) == "0\ufffd1" * 5 + "0"

    message = (
        r"^TextData: the checkpoint has a vocabulary of 12, the files one of 4 "
        r"\(only in the checkpoint: ' 23456789', only in the files: 'x'\)\. Give the files it was trained on, "
        r"or take TextData\.load_from_checkpoint\(path, files=\.\.\.\)\.$"
    )
    with pytest.raises(ValueError, match=message):
        trainer().validate(
            Reader(), datamodule=small(str(tmp_path / "other.txt")), ckpt_path=checkpoint, weights_only=True
        )


@pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")  # by LightningCLI 2.6
def test_the_command_line_links_the_vocabulary_to_the_model(path, monkeypatch):
    class CLI(LightningCLI):
        def add_arguments_to_parser(self, parser):
            parser.link_arguments("data.vocab_size", "model.vocab_size", apply_on="instantiate")

    monkeypatch.setattr(sys, "argv", ["fit", "--data.files", path, "--trainer.logger=false"])
    cli = CLI(Reader, TextData, run=False, save_config_callback=None, seed_everything_default=False)
    assert len(cli.model.scores) == cli.datamodule.vocab_size == 12


@pytest.mark.parametrize("files", ["a.txt", ["a.txt", "b*.txt"], None])
def test_files_come_from_yaml_as_one_or_many(files):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(TextData, "data")
    data = parser.instantiate(parser.parse_object({"data": {"files": files}})).data
    assert data.files == (["a.txt"] if files == "a.txt" else files)


def test_a_path_object_is_taken_and_saved_as_a_string(path):
    assert small(Path(path)).hparams["files"] == [path]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"val_fraction": 1.0}, r"^TextData\(val_fraction\): found 1\.0\. Give a share inside \(0, 1\)\.$"),
        ({"val_fraction": float("nan")}, r"^TextData\(val_fraction\): found nan\. Give a share inside \(0, 1\)\.$"),
        ({"context_length": 0}, r"^TextData\(context_length\): found 0\. Give a whole number from 1 on\.$"),
        ({"batch_size": -1}, r"^TextData\(batch_size\): found -1\. Give a whole number from 1 on\.$"),
        (
            {"context_length": 500},
            r"^TextData\(files=.*\): found 3889 characters, 389 of them for validation, "
            r"fewer than the 501 of one window\. Give more text or a smaller context_length\.$",
        ),
        ({"max_chars": 10}, r"found 10 characters, 9 of them for training, fewer than the 17 of one window\."),
        (
            {"batch_size": 500},
            r"^TextData: found 3500 characters for training, 218 windows on 1 data-parallel rank\(s\), "
            r"fewer than one batch\. Give more text, or a batch_size of at most 218\.$",
        ),
    ],
)
def test_bad_values_are_refused_in_one_line(path, kwargs, message):
    with pytest.raises(ValueError, match=message):
        small(path, **kwargs).train_dataloader()


def test_missing_and_empty_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file matches 'gone\.txt'"):
        _ = small("gone.txt").vocab_size
    (tmp_path / "empty.txt").touch()
    for files in (str(tmp_path / "empty.txt"), []):
        with pytest.raises(ValueError, match="found 0 characters, 0 of them for training"):
            small(files).setup()


def test_two_ranks_share_every_epoch(path, run_ranks):
    """On two real processes, as the Trainer starts them: it must not shard a second time."""
    (left, sampler), (right, _) = run_ranks(
        "import sys\n"
        "from test_text import Reader, small, trainer\n"
        "reader = Reader()\n"
        "fit = trainer(devices=2, strategy='ddp', max_epochs=2)\n"
        "fit.fit(reader, datamodule=small(sys.argv[1]))\n"
        "result = reader.seen, type(fit.train_dataloader.sampler).__name__\n",
        path,
        beside=__file__,
    )
    assert sampler == "WindowSampler"

    assert len(left["train"]) == len(right["train"]) == 2 * (218 // 2 // 8)
    assert len(left["val"]) == len(right["val"]) == 2 * (24 // 2 // 8)
    for stage, num_grids in (("train", 2), ("val", 1)):
        grids = set()
        for epoch in (0, 1):
            shares = [starts(reader[stage], epoch) for reader in (left, right)]
            together = [start for share in shares for start in share]
            assert len(together) == len(set(together))
            grids.add(Counter(start % 16 for start in together).most_common(1)[0])
        assert {count for _, count in grids} <= {len(together), len(together) - 1}
        assert len(grids) == num_grids


def starts(batches, epoch):
    """Positions in the text of the windows of one of two epochs."""
    half = len(batches) // 2
    decode = CharTokenizer.from_text(TEXT).decode
    return [TEXT.index(decode(window)) for batch in batches[epoch * half : (epoch + 1) * half] for window in batch]
