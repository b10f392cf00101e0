import json

import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_dropout.callbacks import OverfittingMonitor
from lightning_dropout.data import TextData

NUM_FILES, NUM_DOCUMENTS = 6, 40  # of which the last file is for validation
CONTEXT, BATCH = 8, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Documents of 32 bytes that say their number four times, so that a window tells where it is from."""
    folder = tmp_path_factory.mktemp("shards")
    for file in range(NUM_FILES):
        numbers = range(file * NUM_DOCUMENTS, (file + 1) * NUM_DOCUMENTS)
        frame = pd.DataFrame({"id": numbers, "body": [f"<{number:05d}>" * 4 for number in numbers]})
        frame.to_parquet(folder / f"{file}.parquet")
    return folder


def stream(folder, **kwargs):
    settings = {
        "text_column": "body",
        "tokenizer": "byte",
        "streaming": True,
        "batches_per_epoch": 10,
        "shuffle_buffer": 20,
        "context_length": CONTEXT,
        "batch_size": BATCH,
    }
    return TextData(f"{folder}/*.parquet", **{**settings, **kwargs})


def windows(loader, epoch=0):
    loader.sampler.set_epoch(epoch)
    return [row for inputs, _ in loader for row in inputs.tolist()]


class Reader(LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch[0].tolist())
        return self.weight

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", batch[0].float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Saver(Callback):
    def __init__(self, folder):
        self.folder = folder

    def on_train_batch_end(self, trainer, *args):
        trainer.save_checkpoint(self.folder / f"{trainer.global_step}.ckpt")


def fit(data, callbacks=(), ckpt_path=None, **kwargs):
    reader = Reader()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=2,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **kwargs,
    )
    trainer.fit(reader, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    return reader.seen


def test_targets_are_one_token_ahead_and_windows_go_on_in_the_next_document(folder):
    data = stream(folder)
    for inputs, targets in data.train_dataloader():
        assert (inputs.shape, inputs.dtype) == ((BATCH, CONTEXT), torch.int64)
        assert torch.equal(inputs[:, 1:], targets[:, :-1])
    pieces = [data.decode(row) for row in windows(data.train_dataloader())]
    assert any(">\n\n<" in piece for piece in pieces)


def test_a_pass_has_every_window_once_and_then_comes_another_order(folder):
    documents = [f"\n\n{f'<{number:05d}>' * 4}" for number in range(200)]
    num_windows = 200 * len(documents[0]) // CONTEXT - 1
    data = stream(folder, batches_per_epoch=2 * num_windows // BATCH, shuffle_buffer=1)
    found = windows(data.train_dataloader())
    text = data.decode([token for row in found[:num_windows] for token in row])
    seen = ["\n\n" + document for document in text.split("\n\n")[1:-1]]
    assert len(seen) == len(set(seen)) == 199
    assert set(seen) < set(documents)
    assert len(text) == num_windows * CONTEXT
    shuffled = windows(stream(folder, batches_per_epoch=num_windows // BATCH, shuffle_buffer=10**6).train_dataloader())
    assert shuffled != found[: len(shuffled)]
    assert {tuple(row) for row in shuffled} <= {tuple(row) for row in found[: num_windows + 1]}
    assert found[num_windows + 1 : num_windows + 30] != found[:29]


def test_the_order_depends_on_seed_and_epoch_and_not_on_the_global_random_state(folder):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    orders = [windows(stream(folder, seed=seed).train_dataloader(), epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert windows(stream(folder).train_dataloader(), 1) == orders[1]
    assert len({json.dumps(order) for order in orders}) == 4


def test_an_epoch_begins_with_another_file(folder):
    data = stream(folder, shuffle_buffer=1, batches_per_epoch=1)
    loader = data.train_dataloader()
    beginnings = {data.decode(windows(loader, epoch)[0]) for epoch in range(10)}
    assert beginnings <= {f"\n\n<{file * NUM_DOCUMENTS:05d}" for file in range(NUM_FILES - 1)}
    assert len(beginnings) > 2


@pytest.mark.parametrize("num_ranks", [2, 5])
def test_ranks_get_other_documents_and_as_many_batches(folder, num_ranks, monkeypatch):
    """Five files are dealt out to five ranks as files, to two ranks as documents."""
    seen = []
    for rank in range(num_ranks):
        shares = {"num_replicas": num_ranks, "rank": rank}
        monkeypatch.setattr("lightning_dropout.data.text.ranks", lambda trainer, shares=shares: shares)
        data = stream(folder, batches_per_epoch=4)
        rows = windows(data.train_dataloader())
        assert len(rows) == 4 * BATCH
        text = "|".join(map(data.decode, rows))
        seen.append({part[:5] for part in text.split("<") if part[:5].isdigit()})
    assert all(seen)
    for rank, numbers in enumerate(seen):
        assert not any(numbers & others for others in seen[:rank])


def test_a_resumed_fit_sees_the_batches_that_were_left(folder, tmp_path):
    whole = fit(stream(folder), [Saver(tmp_path)])
    assert len(whole) == 20
    for num_steps in (3, 10, 14):
        rest = fit(stream(folder), ckpt_path=tmp_path / f"{num_steps}.ckpt")
        assert rest == whole[num_steps:], num_steps


def test_who_measures_on_the_stream_does_not_disturb_it(folder):
    monitor = OverfittingMonitor(num_train_batches=3, plot=False)
    assert fit(stream(folder), [monitor], val_check_interval=4) == fit(stream(folder), val_check_interval=4)
    assert len(monitor.history) == 4


def test_workers_share_the_files(folder):
    rows = windows(stream(folder, num_workers=2, batches_per_epoch=20, shuffle_buffer=1).train_dataloader())
    assert rows == windows(stream(folder, num_workers=2, batches_per_epoch=20, shuffle_buffer=1).train_dataloader())
    assert len(rows) == 20 * BATCH
    assert len({tuple(row) for row in rows}) > 15 * BATCH


def test_validation_is_from_the_last_files_and_bounded(folder):
    data = stream(folder, batches_per_epoch=30)
    batches = list(data.val_dataloader())
    assert len(batches) == 3
    text = data.decode(torch.cat([inputs.flatten() for inputs, _ in batches]))
    assert text.startswith("<00200><00200>")
    other = stream(folder, val_files=str(folder / "0.parquet"))
    assert other.decode(next(iter(other.val_dataloader()))[0][0]) == "<00000><"


def test_a_folder_of_splits_is_streamed(folder, tmp_path):
    for split, number in (("train", 1), ("validation", 2)):
        (tmp_path / f"{split}.parquet").write_bytes((folder / f"{number}.parquet").read_bytes())
    data = TextData(str(tmp_path), text_column="body", tokenizer="byte", streaming=True, context_length=8, batch_size=2)
    assert "<0004" in "".join(map(data.decode, windows(data.train_dataloader())))
    assert data.decode(next(iter(data.val_dataloader()))[0][0]) == "<00080><"


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"tokenizer": "char"},
            r"^TextData\(streaming=True, tokenizer='char', .*\): a stream is not read",
        ),
        ({"max_chars": 100}, r"max_chars=100\): a stream is not read beforehand\."),
        ({"batches_per_epoch": 0}, r"^TextData\(batches_per_epoch\): found 0\. Give a whole number from 1 on\.$"),
        ({"text_column": "text"}, r"^TextData\(text_column='text'\): no such column\. Found: 'id', 'body'\.$"),
        ({"context_length": 5000}, r"tokens, \d+ of them for validation, fewer than the 5001 of one window\."),
    ],
)
def test_bad_values_are_refused_in_one_line(folder, kwargs, message):
    with pytest.raises(ValueError, match=message) as raised:
        stream(folder, **kwargs).train_dataloader()
    assert "\n" not in str(raised.value)


def test_one_file_needs_another_for_validation(folder):
    data = TextData(str(folder / "0.parquet"), text_column="body", tokenizer="byte", streaming=True)
    with pytest.raises(ValueError, match=r"validation takes the last files, and there are not two\. Give val_files="):
        data.setup()


def test_two_ranks_train_on_one_stream_and_resume(folder, run_ranks, tmp_path):
    left, right = run_ranks(
        "import sys\n"
        "from pathlib import Path\n"
        "from test_stream import Saver, fit, stream\n"
        "folder, saved = map(Path, sys.argv[1:])\n"
        "ranks = {'devices': 2, 'strategy': 'ddp'}\n"
        "whole = fit(stream(folder), [Saver(saved)], **ranks)\n"
        "rest = fit(stream(folder), ckpt_path=saved / '4.ckpt', **ranks)\n"
        "result = whole, rest\n",
        str(folder),
        str(tmp_path),
        beside=__file__,
    )
    for whole, rest in (left, right):
        assert len(whole) == 20
        assert rest == whole[4:]
    assert left != right
