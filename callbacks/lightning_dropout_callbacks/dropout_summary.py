"""Print the dropout sites of a model when training starts."""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer

from lightning_dropout.sites import find_sites
from lightning_dropout_callbacks.lean import LeanCallback
from lightning_dropout_callbacks.run_page import RunPage

__all__ = ["DropoutSummary"]


class DropoutSummary(LeanCallback):
    """Print the table of dropout sites at fit start, on one rank.

    With a ``WandbLogger`` the sites are in the run's configuration as well, as ``dropout_sites``, and what ``audit``
    finds as ``dropout_audit``, if the module has an ``example_input_array`` to run.

    Args:
        grouped: One row for the same site of all repeated blocks; otherwise one row for every site.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> trainer = Trainer(callbacks=[DropoutSummary()], logger=False, enable_checkpointing=False)
    """

    def __init__(self, *, grouped: bool = True) -> None:
        self.grouped = grouped
        self._page = RunPage("DropoutSummary")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table, and give it to W&B."""
        if not trainer.is_global_zero:
            return
        from rich.console import Console

        sites = find_sites(pl_module)
        if len(sites) == 0:
            Console().print(f"{type(pl_module).__name__} has no dropout sites.")
        else:
            Console().print(sites.table(grouped=self.grouped))
        self._page.describe(trainer, pl_module)
