import random
import string

import pytest
import wandb

from lightning_dropout.cli.main import main

TINY = [
    "--trainer.accelerator=cpu",
    "--trainer.devices=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.max_epochs=2",
    "--trainer.limit_train_batches=3",
    "--trainer.limit_val_batches=2",
    "--trainer.log_every_n_steps=1",
    "--model.network.num_layers=1",
    "--model.network.num_heads=2",
    "--model.network.dim=16",
    "--model.network.context_length=8",
    "--data.context_length=8",
    "--data.batch_size=4",
]


def make_workplace(folder, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(folder / "no-netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(folder / "no-config"))
    monkeypatch.setenv("WANDB_CONSOLE", "off")  # it would hold on to the stdout of one test in the next
    wandb.teardown()  # so that it reads its settings again
    place = folder / "workplace"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def make_text(folder):
    path = folder / "text.txt"
    path.write_text("".join(random.Random(0).choices(string.printable.rstrip(), k=2000)))
    return path


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty folder to run in, where no W&B key can be found."""
    return make_workplace(tmp_path, monkeypatch)


@pytest.fixture
def text(tmp_path):
    """A text with every printable character in it."""
    return make_text(tmp_path)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """The folder of a finished run of ``char-lm``, with a W&B run in it; for reading alone."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as monkeypatch:
        place = make_workplace(folder, monkeypatch)
        assert main(["run", "char-lm", *TINY, f"--data.files={make_text(folder)}"]) == 0
    return place / "runs/char-lm/version_0"


@pytest.fixture
def tiny(text):
    """Overrides that make ``char-lm`` a matter of a second."""
    return [*TINY, f"--data.files={text}"]
