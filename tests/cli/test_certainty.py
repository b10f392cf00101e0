import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset

import lightning_dropout as ld
from lightning_dropout.callbacks import MCDropout
from lightning_dropout.cli.certainty import certainty_rows


class Rows(LightningDataModule):
    """Rows of which every second one shows its class clearly; the others say nothing."""

    def val_dataloader(self):
        targets = torch.arange(64) % 4 // 2
        inputs = torch.zeros(64, 2)
        inputs[::2, 0] = 8.0 * (2 * targets[::2] - 1)
        return DataLoader(TensorDataset(inputs, targets), batch_size=10)


@pytest.fixture
def module():
    network = ld.MLP(2, 2, widths=[16], dropout=ld.MLPDropout(input=0.0, hidden=0.5))
    with torch.no_grad():
        network.layers[0].linear.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).repeat(8, 1))
        network.layers[0].linear.bias.fill_(0.1)
        network.output.weight.copy_(torch.tensor([[-1.0, 1.0], [1.0, -1.0]]).repeat(1, 8))
        network.output.bias.zero_()
    return ld.Classifier(network, num_classes=2)


def test_the_certain_half_holds_the_rows_that_show_their_class(module):
    before = torch.get_rng_state()
    rows = dict(certainty_rows(module, Rows(), MCDropout(20)))
    assert rows["rows"] == "64 of validation, 20 dropout masks each"
    assert float(rows["of its more certain half"]) == 1.0
    assert float(rows["of the other half"]) < 0.9
    halves = float(rows["of its more certain half"]) + float(rows["of the other half"])
    assert float(rows["accuracy of the mean over masks"]) == pytest.approx(halves / 2, abs=2e-3)
    assert torch.equal(torch.get_rng_state(), before)
    assert dict(certainty_rows(module, Rows(), MCDropout(20))) == rows
