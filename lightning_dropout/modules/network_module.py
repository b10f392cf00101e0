"""What every LightningModule here has in common: it wraps a network and trains it with AdamW."""

from __future__ import annotations

from functools import partial
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from lightning_dropout.modules.optimization import decay_groups, total_steps, warmup_cosine, warmup_steps

__all__ = ["NetworkModule"]


class NetworkModule(LightningModule):
    """Base of the LightningModules here: any network, trained by AdamW with a warmup and a cosine by optimizer step.

    Checkpoints hold the settings but not the network's class: load them with
    ``load_from_checkpoint(path, network=...)``. In a LightningCLI run the network is configuration, the checkpoint
    holds it, and ``load_from_checkpoint(path)`` is enough.

    Args:
        network: Any ``nn.Module``; outputs of Hugging Face models are read through their ``logits``.
        lr: Peak learning rate.
        weight_decay: Decay of matrices, kernels and embedding tables; biases and norms are never decayed.
        betas: AdamW's momentum coefficients.
        warmup: Length of the linear warmup: a share of all optimizer steps if below 1, else their number.
        min_lr_ratio: Where the cosine ends, as a share of ``lr``.

    Raises:
        ValueError: At fit start, if the trainer has no known number of steps.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.999),
        warmup: float = 0.05,
        min_lr_ratio: float = 0.1,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["network"])
        if "_instantiator" in self.hparams:
            # LightningCLI hands over its configuration, where the network is a class path and worth keeping.
            self.save_hyperparameters()
        self.network = network
        self.lr, self.weight_decay, self.betas = lr, weight_decay, betas
        self.warmup, self.min_lr_ratio = warmup, min_lr_ratio

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the network returns; the logits where it returns a Hugging Face output."""
        output = self.network(*args, **kwargs)
        return getattr(output, "logits", output)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW, and the learning rate as a function of the optimizer step."""
        total = total_steps(self.trainer)
        # Under a GradScaler, Lightning refuses to clip gradients for fused optimizers.
        fused = self.trainer.precision != "16-mixed"
        groups = decay_groups(self, self.weight_decay)
        optimizer = AdamW(groups, lr=self.lr, betas=(self.betas[0], self.betas[1]), fused=fused)
        factor = partial(warmup_cosine, warmup=warmup_steps(self.warmup, total), total=total, floor=self.min_lr_ratio)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}}
