import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer, seed_everything
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_dropout.modules import Classifier
from lightning_dropout.modules.mixup import mixup


@pytest.fixture
def trainer():
    return Trainer(
        accelerator="cpu", max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)


def test_it_learns_digits_and_agrees_with_scikit_learn(trainer, digits):
    seed_everything(0)
    images, labels = digits
    train = DataLoader(TensorDataset(images[:1200], labels[:1200]), batch_size=50, shuffle=True)
    val = DataLoader(TensorDataset(images[1200:], labels[1200:]), batch_size=100)
    network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    module = Classifier(network, num_classes=10, lr=1e-2, label_smoothing=0.1, mixup=0.2, r_drop=0.5, calibration=True)
    trainer.fit(module, train, val)
    logged = trainer.callback_metrics
    assert set(logged) == {"train_loss", "val_loss", "val_accuracy", "val_calibration_error"}
    logits = network(images[1200:])
    assert logged["val_accuracy"] > 0.85
    assert logged["val_accuracy"].item() == pytest.approx(accuracy_score(labels[1200:], logits.argmax(1)))
    # Validation reports the bare loss, whatever training added to it.
    torch.testing.assert_close(logged["val_loss"], F.cross_entropy(logits, labels[1200:]).detach())


def test_training_smooths_labels_and_validation_does_not():
    module = Classifier(nn.Identity(), num_classes=3, label_smoothing=0.3)
    logits, targets = torch.randn(8, 3), torch.randint(3, (8,))
    assert module.loss(logits, targets) == F.cross_entropy(logits, targets)
    assert module.training_loss(logits, targets) == F.cross_entropy(logits, targets, label_smoothing=0.3)


def test_mixup_is_linear_in_samples_and_labels():
    inputs, targets = torch.randn(6, 3, 4, 4), torch.randint(5, (6,))
    mixed, probabilities = mixup(inputs, targets, num_classes=5, alpha=1.0)
    one_hot = F.one_hot(targets, 5).float()
    weight = ((mixed - inputs) / (inputs.flip(0) - inputs))[0, 0, 0, 0]
    assert 0 < weight < 1
    torch.testing.assert_close(mixed, (1 - weight) * inputs + weight * inputs.flip(0))
    torch.testing.assert_close(probabilities, (1 - weight) * one_hot + weight * one_hot.flip(0))


def test_mixup_follows_its_beta_distribution():
    """Beta(a, a) has mean 1/2 and variance 1 / (8 a + 4)."""
    torch.manual_seed(0)
    inputs, targets = torch.tensor([0.0, 1.0]), torch.tensor([0, 1])
    weights = torch.stack([mixup(inputs, targets, num_classes=2, alpha=0.5)[0][0] for _ in range(2000)])
    assert weights.mean().item() == pytest.approx(0.5, abs=0.03)
    assert weights.var().item() == pytest.approx(1 / 8, abs=0.01)


def test_a_network_with_another_number_of_classes_is_refused():
    module = Classifier(nn.Linear(4, 3), num_classes=5)
    with pytest.raises(ValueError, match=r"Classifier\(num_classes=5\) got outputs of shape \(2, 3\)\. Give a network"):
        module.loss(module(torch.zeros(2, 4)), torch.tensor([0, 1]))
