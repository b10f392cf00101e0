"""Print the dropout sites of a model when training starts."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_dropout.sites import find_sites

__all__ = ["DropoutSummary"]


class DropoutSummary(Callback):
    """Print the table of dropout sites at fit start, on one rank.

    Args:
        grouped: One row for the same site of all repeated blocks; otherwise one row for every site.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> trainer = Trainer(callbacks=[DropoutSummary()], logger=False, enable_checkpointing=False)
    """

    def __init__(self, *, grouped: bool = True) -> None:
        self.grouped = grouped

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table."""
        if not trainer.is_global_zero:
            return
        from rich.console import Console

        sites = find_sites(pl_module)
        if len(sites) == 0:
            Console().print(f"{type(pl_module).__name__} has no dropout sites.")
        else:
            Console().print(sites.table(grouped=self.grouped))
