"""The LightningModule for next-token prediction."""

from __future__ import annotations

from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MetricCollection

from lightning_dropout.modules.likelihood import BitsPerToken, Perplexity
from lightning_dropout.modules.network_module import NetworkModule
from lightning_dropout.modules.r_drop import symmetric_kl

__all__ = ["LanguageModel"]

_LEFT_OUT = -100  # torch's and Hugging Face's target for "no loss here"


class LanguageModel(NetworkModule):
    """Train any network that maps token ids ``(batch, length)`` to logits ``(batch, length, vocab)``.

    Batches are ``(inputs, targets)``, both ``(batch, length)``, the targets already shifted; targets of -100 are left
    out of the loss. Logs ``train_loss`` every step, and ``val_loss``, ``val_perplexity`` and ``val_bits`` (bits per
    token: per character with a character vocabulary) every validation; the same for ``test``.

    Args:
        network: Ids to logits, ours or another's; outputs of Hugging Face models are read through their ``logits``.
        weight_decay: As in ``NetworkModule``, with the value that is usual for language models.
        betas: As in ``NetworkModule``, with the values that are usual for language models.
        **settings: The other settings of ``NetworkModule``: ``lr``, ``warmup``, ``r_drop``, ``compile``, ...

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
        metrics = MetricCollection({"perplexity": Perplexity(), "bits": BitsPerToken()})
        super().__init__(network, metrics, weight_decay=weight_decay, betas=betas, **settings)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy over all targets but -100, in nats, in fp32 whatever the precision of the network."""
        return F.cross_entropy(outputs.float().flatten(0, 1), targets.flatten(), ignore_index=_LEFT_OUT)

    def disagreement(self, first: Tensor, second: Tensor, targets: Tensor) -> Tensor:
        """Mean divergence of the two predictions, over all targets but -100."""
        counts = targets != _LEFT_OUT
        return (symmetric_kl(first.float(), second.float()) * counts).sum() / counts.sum()

    def measure(self, metrics: MetricCollection, outputs: Tensor, targets: Tensor, loss: Tensor) -> None:
        """Update ``metrics`` with the loss, which is all they need."""
        metrics.update(loss, num_targets=(targets != _LEFT_OUT).sum())

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
