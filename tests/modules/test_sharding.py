import sys

import pytest

SCRIPT = """
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_dropout.layers import Dropout
from lightning_dropout.modules import Classifier


class Blocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.Tanh(), Dropout(0.0)) for _ in range(2))
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def fit(strategy, devices):
    seed_everything(0)
    inputs = torch.randn(64, 8)  # one batch of all ranks, so that its order is nothing to compare
    data = DataLoader(TensorDataset(inputs, inputs[:, :3].argmax(1)), batch_size=64 // devices)
    module = Classifier(Blocks(), num_classes=3, lr=0.05, activation_checkpointing=True, r_drop=1.0)
    trainer = Trainer(
        accelerator="cpu", devices=devices, strategy=strategy, max_epochs=6, logger=False, enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False, gradient_clip_val=0.5,
    )
    trainer.fit(module, data, data)
    return module, trainer.callback_metrics


sharded, metrics = fit(ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1), devices=2)
sharded.network.reshard()  # after validation the head is still whole
assert all(isinstance(parameter, DTensor) for parameter in sharded.parameters())
whole = {name: value.full_tensor() for name, value in sharded.network.state_dict().items()}
torch.distributed.destroy_process_group()
if sharded.global_rank == 0:
    single, expected = fit("auto", devices=1)
    torch.testing.assert_close(whole, dict(single.network.state_dict()), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(metrics["val_loss"], expected["val_loss"], rtol=1e-4, atol=1e-5)
result = None
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="two processes over gloo")
def test_two_sharded_processes_train_as_one_does(run_ranks):
    run_ranks(SCRIPT)
