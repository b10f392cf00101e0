import math

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.cli import LightningCLI
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_dropout.layers import Dropout
from lightning_dropout.modules import LanguageModel


class Bigram(nn.Module):
    """Predicts a token from the one before it."""

    def __init__(self, vocab_size: int = 5, width: int = 8, rate: float = 0.0):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.dropout = Dropout(rate)
        self.head = nn.Linear(width, vocab_size)

    def forward(self, ids):
        return self.head(self.dropout(self.embedding(ids)))

    def generate(self, prompt_ids, max_new_tokens, *, step=1):
        assert not any(module.training for module in self.modules())
        return torch.cat([prompt_ids, prompt_ids[:, -1:] + step * torch.arange(1, max_new_tokens + 1)], dim=1)


class Counting(LightningDataModule):
    """The next token is the last one plus 1, modulo 5."""

    def loader(self):
        inputs = torch.arange(4000).reshape(250, 16) % 5
        return DataLoader(TensorDataset(inputs, (inputs + 1) % 5), batch_size=10)

    train_dataloader = val_dataloader = test_dataloader = predict_dataloader = loader


def trainer(tmp_path, **settings):
    defaults = {"max_epochs": 2, "enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}
    return Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path, **(defaults | settings))


@pytest.fixture
def cpu_trainer(tmp_path):
    return trainer(tmp_path)


def test_it_learns_to_count_and_logs_what_it_says(cpu_trainer):
    torch.manual_seed(0)
    module = LanguageModel(Bigram(), lr=0.1, warmup=0.1)
    cpu_trainer.fit(module, datamodule=Counting())
    logged = {name: value.item() for name, value in cpu_trainer.callback_metrics.items()}
    assert set(logged) == {"train_loss", "val_loss", "val_perplexity", "val_bits"}
    assert logged["val_loss"] < 0.05
    assert logged["val_perplexity"] == pytest.approx(math.exp(logged["val_loss"]), rel=1e-4)
    assert logged["val_bits"] == pytest.approx(logged["val_loss"] / math.log(2), rel=1e-4)

    (tested,) = cpu_trainer.test(module, datamodule=Counting(), verbose=False)
    assert tested["test_loss"] == pytest.approx(logged["val_loss"])
    assert {"test_perplexity", "test_bits"} <= set(tested)
    logits = cpu_trainer.predict(module, datamodule=Counting())[0]
    assert logits.shape == (10, 16, 5)


def test_left_out_targets_do_not_count():
    module = LanguageModel(Bigram())
    inputs, targets = torch.randint(5, (2, 6)), torch.randint(5, (2, 6))
    masked = targets.clone()
    masked[:, 3:] = -100
    torch.testing.assert_close(module.loss(module(inputs), masked), module.loss(module(inputs[:, :3]), targets[:, :3]))
    logits, others = torch.randn(2, 2, 6, 5)
    torch.testing.assert_close(
        module.disagreement(logits, others, masked),
        module.disagreement(logits[:, :3], others[:, :3], targets[:, :3]),
    )


def test_hugging_face_networks_are_read_through_their_logits():
    from transformers import GPT2Config, GPT2LMHeadModel

    network = GPT2LMHeadModel(
        GPT2Config(vocab_size=11, n_positions=8, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    )
    module = LanguageModel(network)
    ids = torch.randint(11, (2, 8))
    assert module(ids).shape == (2, 8, 11)
    assert module.loss(module(ids), ids).isfinite()


def test_a_checkpoint_is_loaded_around_a_network(cpu_trainer, tmp_path):
    module = LanguageModel(Bigram(width=4), lr=0.02, warmup=3)
    cpu_trainer.fit(module, datamodule=Counting())
    cpu_trainer.save_checkpoint(tmp_path / "model.ckpt")
    loaded = LanguageModel.load_from_checkpoint(tmp_path / "model.ckpt", network=Bigram(width=4))
    assert (loaded.lr, loaded.warmup) == (0.02, 3)
    assert "network" not in loaded.hparams
    torch.testing.assert_close(loaded.network.head.weight, module.network.head.weight)


def test_a_command_line_checkpoint_rebuilds_its_network(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py"])
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # Lightning's own command line class has some
    network = {"class_path": f"{__name__}.Bigram", "init_args": {"width": 3, "rate": 0.25}}
    config = {
        "seed_everything": 1,
        "model": {"network": network, "lr": 0.5, "betas": [0.8, 0.9]},
        "trainer": {
            "accelerator": "cpu", "logger": False, "max_epochs": 1, "enable_progress_bar": False,
            "enable_model_summary": False, "default_root_dir": str(tmp_path),
        },
    }  # fmt: skip
    cli = LightningCLI(LanguageModel, Counting, args=config, run=False, save_config_callback=None)
    assert cli.model.betas == (0.8, 0.9)
    cli.trainer.fit(cli.model, cli.datamodule)
    cli.trainer.save_checkpoint(tmp_path / "model.ckpt")
    loaded = LanguageModel.load_from_checkpoint(tmp_path / "model.ckpt")
    assert loaded.network.dropout.rate == 0.25
    assert loaded.lr == 0.5
    torch.testing.assert_close(loaded.network.head.weight, cli.model.network.head.weight)
    around = LanguageModel.load_from_checkpoint(tmp_path / "model.ckpt", network=Bigram(width=3, rate=0.5))
    assert around.network.dropout.rate == 0.5


def test_generation_runs_in_eval_and_puts_every_mode_back():
    module = LanguageModel(Bigram(rate=0.5)).train()
    module.network.head.eval()
    ids = module.generate(torch.tensor([[1]]), 3, step=2)
    assert ids.tolist() == [[1, 3, 5, 7]]
    assert module.network.dropout.training
    assert not module.network.head.training
