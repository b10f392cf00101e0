import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import SequentialSampler

from lightning_dropout.data.loader import ResumableLoader
from lightning_dropout.data.windows import Windows, WindowSampler

NUM_BATCHES = 5  # of an epoch


class Reader(LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch[0][:, 0].tolist())
        return self.weight

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Saver(Callback):
    """Writes a checkpoint at every hook that checkpoints are written in."""

    def __init__(self, folder):
        self.folder = folder

    def save(self, trainer, hook):
        if not trainer.sanity_checking:
            trainer.save_checkpoint(self.folder / f"{hook}-{trainer.global_step}.ckpt")

    def on_train_batch_end(self, trainer, *args):
        self.save(trainer, "batch")

    def on_validation_end(self, trainer, pl_module):
        self.save(trainer, "validation")

    def on_train_epoch_end(self, trainer, pl_module):
        self.save(trainer, "epoch")


def loader(num_workers=0):
    windows = Windows(torch.arange(1 + 3 * 2 * NUM_BATCHES), context_length=3)
    sampler = WindowSampler(windows, seed=0)
    return ResumableLoader(windows, 2, sampler=sampler, drop_last=True, num_workers=num_workers)


def fit(limits, callbacks=(), ckpt_path=None, num_workers=0, **kwargs):
    reader = Reader()
    trainer = Trainer(
        **limits,
        **kwargs,
        accelerator="cpu",
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    val = torch.utils.data.DataLoader(torch.zeros(2))
    trainer.fit(reader, loader(num_workers), val, ckpt_path=ckpt_path, weights_only=True)
    return reader.seen


@pytest.mark.parametrize("limits", [{"max_epochs": 3}, {"max_epochs": -1, "max_steps": 3 * NUM_BATCHES}], ids=str)
@pytest.mark.parametrize("val_check_interval", [1.0, 2])
def test_a_resumed_fit_sees_the_batches_that_were_left(tmp_path, limits, val_check_interval):
    whole = fit(limits, [Saver(tmp_path)], val_check_interval=val_check_interval)
    assert len(whole) == 3 * NUM_BATCHES
    for path in sorted(tmp_path.glob("*.ckpt")):
        hook, num_steps = path.stem.split("-")[0], int(path.stem.split("-")[1])
        if hook == "epoch" and "max_steps" in limits:
            continue  # Lightning 2.6 counts this epoch once more when it resumes, so all later epochs differ
        assert fit(limits, ckpt_path=path, val_check_interval=val_check_interval) == whole[num_steps:], path.stem
    assert {path.stem.split("-")[0] for path in tmp_path.glob("*.ckpt")} == {"batch", "validation", "epoch"}


def test_workers_that_fetch_ahead_do_not_count(tmp_path):
    whole = fit({"max_epochs": 2}, [Saver(tmp_path)], num_workers=1)
    assert fit({"max_epochs": 2}, ckpt_path=tmp_path / "batch-3.ckpt", num_workers=1) == whole[3:]


def test_a_limited_epoch_is_not_resumed_into_the_next(tmp_path):
    limits = {"max_epochs": 3, "limit_train_batches": 3}
    whole = fit(limits, [Saver(tmp_path)])
    for num_steps in (2, 3, 4):
        assert fit(limits, ckpt_path=tmp_path / f"batch-{num_steps}.ckpt") == whole[num_steps:]


def test_the_state_counts_what_was_consumed():
    batches = loader()
    assert batches.state_dict() == {"epoch": 0, "num_batches": 0}
    batches.sampler.set_epoch(4)
    iterator = iter(batches)
    expected = [next(iterator) for _ in range(NUM_BATCHES)][2:]
    fresh = loader()
    fresh.load_state_dict({"epoch": 4, "num_batches": 2})
    fresh.sampler.set_epoch(4)
    for batch, again in zip(expected, fresh, strict=True):
        assert torch.equal(batch[0], again[0])
    assert fresh.state_dict() == batches.state_dict() == {"epoch": 4, "num_batches": NUM_BATCHES}
    assert len(list(fresh)) == NUM_BATCHES


def test_a_sampler_without_epochs_resumes_once():
    windows = Windows(torch.arange(20), context_length=3)
    batches = ResumableLoader(windows, 2, sampler=SequentialSampler(windows))
    batches.load_state_dict({"epoch": 0, "num_batches": 3})
    assert [len(list(batches)), len(list(batches))] == [len(batches) - 3, len(batches)]
