import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_dropout.models import CNN, CNNDropout
from lightning_dropout.modules import Classifier
from lightning_dropout.sites import find_sites


def test_sites_of_a_plain_network():
    network = CNN(3, 10, widths=(4, 8), dropout=CNNDropout(channel=0.1, head=0.5))
    assert find_sites(network).rates() == {"blocks.0.channel": 0.1, "blocks.1.channel": 0.1, "head": 0.5}


def test_sites_of_a_residual_network_with_dropblock():
    dropout = CNNDropout(channel=0.0, block=0.2, block_size=3, path=0.4, head=0.0)
    network = CNN(3, 10, widths=(4, 8), residual=True, image_size=(8, 8), dropout=dropout)
    assert find_sites(network).rates() == {
        "blocks.0.channel": 0.0,
        "blocks.0.block": 0.2,
        "blocks.0.path": 0.2,
        "blocks.1.channel": 0.0,
        "blocks.1.block": 0.2,
        "blocks.1.path": 0.4,
        "head": 0.0,
    }


@pytest.mark.parametrize("residual", [False, True])
def test_sites_exist_at_rate_0_and_do_nothing(residual):
    network = CNN(1, 2, widths=(4, 8), residual=residual, dropout=CNNDropout(channel=0.0, head=0.0)).train()
    x = torch.randn(4, 1, 8, 8)
    assert network(x).equal(network(x))
    find_sites(network).match("*.channel").set(0.5)
    assert not network(x).equal(network(x))


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_maps_shrink_by_the_strides_and_any_image_is_taken(residual, batch_norm):
    network = CNN(3, 7, widths=(4, 4, 8, 6), strides=(2, 1, 3, 1), residual=residual, batch_norm=batch_norm)
    sides = []
    for block in network.blocks:
        block.register_forward_hook(lambda module, args, output: sides.append(tuple(output.shape[1:])))
    assert network(torch.randn(2, 3, 11, 8)).shape == (2, 7)
    assert sides == [(4, 6, 4), (4, 6, 4), (8, 2, 2), (6, 2, 2)]


def test_maps_are_halved_where_they_get_wider():
    network = CNN(1, 2, widths=(4, 4, 8, 8, 4))
    assert [block.conv.stride[0] for block in network.blocks] == [1, 1, 2, 1, 1]


@pytest.mark.parametrize(("after", "behind_norm"), [("activation", False), ("norm", True)])
@pytest.mark.parametrize("residual", [False, True])
def test_dropout_stands_right_after_batch_norm_only_if_asked(after, behind_norm, residual):
    dropout = CNNDropout(channel=0.5, block=0.1, block_size=2, path=0.5 if residual else 0.0, after=after)
    network = CNN(1, 2, widths=(4, 8), residual=residual, image_size=(8, 8), dropout=dropout)
    calls = []
    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda module, args, output: calls.append((module, args[0], output)))
    network(torch.randn(2, 1, 8, 8))
    normed = {id(output) for module, _, output in calls if isinstance(module, nn.BatchNorm2d)}
    found = {module for module, x, _ in calls if hasattr(module, "rate") and id(x) in normed}
    assert found == ({block.channel for block in network.blocks} if behind_norm else set())


def test_path_dropout_at_rate_1_leaves_the_shortcut():
    network = CNN(1, 2, widths=(4, 4), residual=True, dropout=CNNDropout(path=1.0))
    x = torch.randn(3, 4, 6, 6)
    assert network.blocks[1](x).equal(x)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: CNN(1, 2, dropout=CNNDropout(path=0.1)),
            r"CNN\(residual=False, dropout=CNNDropout\(path=0\.1\)\): plain blocks have no branch to drop",
        ),
        (
            lambda: CNN(1, 2, batch_norm=False, dropout=CNNDropout(after="norm")),
            r"CNN\(batch_norm=False, dropout=CNNDropout\(after='norm'\)\): there is no norm",
        ),
        (
            lambda: CNN(1, 2, image_size=(28, 20), dropout=CNNDropout(block=0.1, block_size=7)),
            r"CNN\(image_size=\(28, 20\), dropout=CNNDropout\(block_size=7\)\): the map of blocks\.2 is 7x5",
        ),
        (
            lambda: CNN(1, 2, dropout=CNNDropout(block_size=3)),
            r"CNN\(image_size=None, dropout=CNNDropout\(block_size=3\)\): .* Set image_size=\(height, width\)",
        ),
        (lambda: CNN(1, 2, widths=(4, 8), strides=(1,)), r"widths=\[4, 8\], strides=\[1\]\): give one width and one"),
        (lambda: CNN(1, 2, widths=()), r"CNN\(widths=\[\], strides=\[\]\): give one width"),
        (lambda: CNN(0, 2), r"CNN\(num_channels=0\): give a whole number from 1 on"),
        (lambda: CNN(1, 2, dropout=0.2), r"CNN\(dropout=0.2\): each site has a rate of its own. Give a CNNDropout\("),
        (lambda: CNNDropout(block=0.1), r"CNNDropout\(block=0\.1, block_size=None\): .* Set block_size="),
        (lambda: CNNDropout(head=-1), r"CNNDropout head is -1\.0\. Give the probability"),
        (lambda: CNNDropout(after="pool"), r"CNNDropout\(after='pool'\) is unknown\. Give 'activation' or 'norm'"),
    ],
)
def test_what_makes_no_sense_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_dropout_holds_a_cnn_back_from_learning_wrong_labels():
    images, labels = load_digits(return_X_y=True)
    images, labels = torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(labels)
    noise = torch.Generator().manual_seed(0)
    wrong = torch.rand(len(labels), generator=noise) < 0.3
    labels[wrong] = torch.randint(10, (int(wrong.sum()),), generator=noise)
    train = DataLoader(TensorDataset(images[:100], labels[:100]), batch_size=50)
    val = DataLoader(TensorDataset(images[1297:], labels[1297:]), batch_size=500)

    def losses(dropout):
        seed_everything(0)
        network = CNN(1, 10, widths=(16, 32), residual=True, dropout=dropout)
        module = Classifier(network, num_classes=10, lr=1e-2)
        trainer = Trainer(
            accelerator="cpu", max_epochs=60, check_val_every_n_epoch=60, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
        )  # fmt: skip
        trainer.fit(module, train, val)
        return [trainer.validate(module, data, verbose=False)[0]["val_loss"] for data in (train, val)]

    train_without, val_without = losses(CNNDropout(channel=0.0, head=0.0))
    train_with, val_with = losses(CNNDropout(channel=0.2, path=0.2, head=0.5))
    assert train_without < 0.1 < train_with
    assert val_with + 0.2 < val_without
