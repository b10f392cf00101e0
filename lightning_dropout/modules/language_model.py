"""The LightningModule for next-token prediction."""

from __future__ import annotations

from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MetricCollection

from lightning_dropout.modules.likelihood import BitsPerToken, Perplexity
from lightning_dropout.modules.network_module import NetworkModule

__all__ = ["LanguageModel"]


class LanguageModel(NetworkModule):
    """Train any network that maps token ids ``(batch, length)`` to logits ``(batch, length, vocab)``.

    Batches are ``(inputs, targets)``, both ``(batch, length)``, the targets already shifted; targets of -100 are left
    out of the loss. Logs ``train_loss`` every step, and ``val_loss``, ``val_perplexity`` and ``val_bits`` (bits per
    token: per character with a character vocabulary) every validation; the same for ``test``.

    Args:
        network: Ids to logits, ours or another's; outputs of Hugging Face models are read through their ``logits``.
        weight_decay: As in ``NetworkModule``, with the value that is usual for language models.
        betas: As in ``NetworkModule``, with the values that are usual for language models.
        **settings: The other settings of ``NetworkModule``.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Embedding(65, 32), nn.Linear(32, 65))
        >>> model = LanguageModel(network, lr=3e-4, warmup=100)
        >>> model(torch.zeros(2, 16, dtype=torch.long)).shape
        torch.Size([2, 16, 65])
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        weight_decay: float = 0.1,
        betas: tuple[float, float] = (0.9, 0.95),
        **settings: Any,
    ) -> None:
        super().__init__(network, weight_decay=weight_decay, betas=betas, **settings)
        likelihood = MetricCollection({"perplexity": Perplexity(), "bits": BitsPerToken()})
        self.val_metrics = likelihood.clone(prefix="val_")
        self.test_metrics = likelihood.clone(prefix="test_")

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Mean cross-entropy of the batch, in nats."""
        loss = self.loss(batch)
        # The bar reads its values after every batch, which would make the host wait for a CUDA device.
        self.log("train_loss", loss, prog_bar=not loss.is_cuda, batch_size=len(batch[0]))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the loss and its readings."""
        self.evaluate("val", self.val_metrics, batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the loss and its readings."""
        self.evaluate("test", self.test_metrics, batch)

    def predict_step(self, batch: tuple[Tensor, Tensor] | Tensor, batch_idx: int) -> Tensor:
        """Logits of a batch with or without targets, ``(batch, length, vocab)``."""
        logits: Tensor = self(batch if isinstance(batch, Tensor) else batch[0])
        return logits

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Mean cross-entropy over all targets but -100, in fp32 whatever the precision of the network."""
        inputs, targets = batch
        return F.cross_entropy(self(inputs).float().flatten(0, 1), targets.flatten())

    def evaluate(self, stage: str, metrics: MetricCollection, batch: tuple[Tensor, Tensor]) -> None:
        """Log ``batch`` under the name of ``stage``."""
        loss = self.loss(batch)
        metrics.update(loss, num_targets=(batch[1] != -100).sum())
        self.log(f"{stage}_loss", loss, prog_bar=True, batch_size=len(batch[0]), sync_dist=True)
        self.log_dict(metrics, batch_size=len(batch[0]))

    def generate(self, prompt_ids: Tensor, max_new_tokens: int, **settings: Any) -> Tensor:
        """``network.generate`` in eval mode; every module is then back in the mode it was in."""
        modes = {module: module.training for module in self.network.modules()}
        self.network.eval()
        try:
            ids: Tensor = cast(Any, self.network).generate(prompt_ids, max_new_tokens, **settings)
            return ids
        finally:
            for module, training in modes.items():
                module.training = training
