"""What every LightningModule here has in common: it wraps a network and trains it with AdamW."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MetricCollection

from lightning_dropout.layers.concrete import ConcreteDropout, concrete_regularization
from lightning_dropout.modules.blocks import checkpoint_blocks, shard
from lightning_dropout.modules.optimization import decay_groups, total_steps, warmup_cosine, warmup_steps

__all__ = ["NetworkModule"]

Batch = tuple[Tensor, Tensor]


class NetworkModule(LightningModule):
    """Base of the LightningModules here: any network, trained by AdamW with a warmup and a cosine by optimizer step.

    A batch is ``(inputs, targets)``. Subclasses say what the loss is, and what R-Drop compares. Logs ``train_loss``
    every step: the whole objective, regularizers included. ``val_loss`` and ``test_loss`` are the bare loss. The
    regularizer of Concrete dropout is part of the objective as soon as the network has such layers.

    Checkpoints hold the settings but not the network's class: load them with
    ``load_from_checkpoint(path, network=...)``. In a LightningCLI run the network is configuration, the checkpoint
    holds it, and ``load_from_checkpoint(path)`` is enough.

    With ``ModelParallelStrategy`` the network is sharded by FSDP2, one block at a time.

    Args:
        network: Any ``nn.Module``; outputs of Hugging Face models are read through their ``logits``.
        metrics: Updated with outputs and targets, logged as ``val_...`` and ``test_...``.
        lr: Peak learning rate.
        weight_decay: Decay of matrices, kernels and embedding tables; biases and norms are never decayed.
        betas: AdamW's momentum coefficients.
        warmup: Length of the linear warmup: a share of all optimizer steps if below 1, else their number.
        min_lr_ratio: Where the cosine ends, as a share of ``lr``.
        r_drop: Weight of R-Drop: how much the outputs of two forward passes under different masks shall agree
            (Wu et al. 2021, who use .1 to 5). Above 0 every step runs the network twice.
        activation_checkpointing: Recompute blocks in backward, with the masks they had, to save memory.
        compile: Run the network through ``torch.compile``.

    Raises:
        ValueError: If a setting is negative; at fit start, if the trainer has no known number of steps, if there are
            no blocks to checkpoint, or if Concrete dropout would be sharded.
    """

    def __init__(
        self,
        network: nn.Module,
        metrics: MetricCollection,
        *,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.999),
        warmup: float = 0.05,
        min_lr_ratio: float = 0.1,
        r_drop: float = 0.0,
        activation_checkpointing: bool = False,
        compile: bool = False,
    ) -> None:
        super().__init__()
        numbers = {"lr": lr, "weight_decay": weight_decay, "warmup": warmup, "r_drop": r_drop}
        for name, value in numbers.items():
            if not value >= 0.0:
                raise ValueError(f"{type(self).__name__}({name}={value}) makes no sense. Give a number from 0.")
        self.save_hyperparameters(ignore=["network", "metrics"])
        if "_instantiator" in self.hparams:
            # LightningCLI hands over its configuration, where the network is a class path and worth keeping.
            self.save_hyperparameters()
        self.network = network
        self.val_metrics, self.test_metrics = metrics.clone(prefix="val_"), metrics.clone(prefix="test_")
        self.lr, self.weight_decay, self.betas = lr, weight_decay, betas
        self.warmup, self.min_lr_ratio = warmup, min_lr_ratio
        self.agreement = r_drop  # whoever looks for dropout sites would take an attribute called r_drop for a rate
        self.activation_checkpointing, self.compiled = activation_checkpointing, compile
        self.concrete = any(isinstance(module, ConcreteDropout) for module in network.modules())

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of a batch, as validation reports it."""
        raise NotImplementedError

    def training_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of a batch, as training minimises it."""
        return self.loss(outputs, targets)

    def disagreement(self, first: Tensor, second: Tensor, targets: Tensor) -> Tensor:
        """What R-Drop adds to the loss: how far two outputs for one batch are apart."""
        raise NotImplementedError

    def augment(self, inputs: Tensor, targets: Tensor) -> Batch:
        """The batch that is trained on."""
        return inputs, targets

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the network returns; the logits where it returns a Hugging Face output."""
        output = self.__dict__.get("compiled_network", self.network)(*args, **kwargs)
        return getattr(output, "logits", output)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The objective of the batch."""
        inputs, targets = self.augment(*batch)
        outputs = self(inputs)
        loss = self.training_loss(outputs, targets)
        if self.agreement:
            again = self(inputs)
            loss = 0.5 * (loss + self.training_loss(again, targets))
            loss = loss + self.agreement * self.disagreement(outputs, again, targets)
        if self.concrete:
            loss = loss + concrete_regularization(self.network)
        # The bar reads its values after every batch, which would make the host wait for a CUDA device.
        self.log("train_loss", loss, prog_bar=not loss.is_cuda, batch_size=len(batch[0]))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the loss and the metrics."""
        self.evaluate("val", self.val_metrics, batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the loss and the metrics."""
        self.evaluate("test", self.test_metrics, batch)

    def predict_step(self, batch: Batch | Tensor, batch_idx: int) -> Any:
        """What the network returns for a batch with or without targets."""
        return self(batch if isinstance(batch, Tensor) else batch[0])

    def evaluate(self, stage: str, metrics: MetricCollection, batch: Batch) -> None:
        """Log ``batch`` under the name of ``stage``."""
        inputs, targets = batch
        outputs = self(inputs)
        loss = self.loss(outputs, targets)
        self.measure(metrics, outputs, targets, loss)
        self.log(f"{stage}_loss", loss, prog_bar=True, batch_size=len(inputs), sync_dist=True)
        self.log_dict(metrics, batch_size=len(inputs))

    def measure(self, metrics: MetricCollection, outputs: Tensor, targets: Tensor, loss: Tensor) -> None:
        """Update ``metrics`` with a batch."""
        metrics.update(outputs, targets)

    def configure_model(self) -> None:
        """Checkpoint, shard and compile the network, in that order; called again, it changes nothing."""
        if self.activation_checkpointing:
            checkpoint_blocks(self.network)
        if self.device_mesh is not None:
            if self.concrete:
                raise ValueError(
                    f"{type(self).__name__} cannot shard Concrete dropout: a learned rate is one number, and one rank "
                    "would have it. Use strategy='ddp', or another kind of dropout."
                )
            shard(self.network, self.device_mesh["data_parallel"])
        if self.compiled and "compiled_network" not in self.__dict__:
            # Beside the module tree: in it, every parameter would have a second name.
            self.__dict__["compiled_network"] = torch.compile(self.network)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW, and the learning rate as a function of the optimizer step."""
        total = total_steps(self.trainer)
        # Under a GradScaler, Lightning refuses to clip gradients for fused optimizers.
        fused = self.trainer.precision != "16-mixed"
        groups = decay_groups(self.network, self.weight_decay)
        optimizer = AdamW(groups, lr=self.lr, betas=(self.betas[0], self.betas[1]), fused=fused)
        factor = partial(warmup_cosine, warmup=warmup_steps(self.warmup, total), total=total, floor=self.min_lr_ratio)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}}
