"""What the terminal shows while a person waits."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

__all__ = ["RunProgress"]

_GAP = "overfit/gap_"


class RunProgress(RichProgressBar):
    """Lightning's progress bar with the gap of the last validation, and without the number of the run.

    The rates are there already: whatever drives dropout logs its value for the bar.
    """

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """The items of the bar; ``gap`` is that of the loss, or of the first metric that has one."""
        items = super().get_metrics(trainer, pl_module)
        items.pop("v_num", None)
        gaps = [name for name in trainer.callback_metrics if name.startswith(_GAP)]
        if gaps:
            name = f"{_GAP}loss" if f"{_GAP}loss" in gaps else gaps[0]
            items["gap"] = float(trainer.callback_metrics[name])
        return items
