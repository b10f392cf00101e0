"""What callbacks that drive dropout rates have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import nn

from lightning_dropout.sites import Sites, SiteWriter, find_sites
from lightning_dropout_callbacks.progress import FitProgress
from lightning_dropout_callbacks.rate_log import RateLog, RateSummary

__all__ = ["How", "SiteDriver", "as_globs", "select_sites"]

How = Literal["set", "scale"]

DEFAULT_KINDS = ("element", "channel", "attention", "context", "embedding", "recurrent")


def as_globs(sites: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """The argument ``sites`` of a callback, as a tuple; None stands for the default selection."""
    if sites is None or isinstance(sites, str):
        return (sites,) if sites is not None else None
    if not isinstance(sites, Sequence) or not sites or not all(isinstance(glob, str) for glob in sites):
        raise ValueError(f"sites={sites!r} is no glob. Give one such as 'blocks.*.ff', a list of them, or None.")
    return tuple(sites)


def select_sites(model: nn.Module, globs: tuple[str, ...] | None, *, needed_by: str) -> Sites:
    """The sites that match, or by default the element-like ones that the model's author turned on.

    Raises:
        ValueError: If there is none.
    """
    found = find_sites(model)
    if globs is not None:
        try:
            return found.match(*globs)
        except ValueError as error:
            raise ValueError(f"{needed_by}(sites={list(globs)}): {error} Change sites=.") from None
    selected = Sites([site for site in found.of_kind(*DEFAULT_KINDS) if site.base_rate > 0.0])
    if len(selected) == 0:
        others = ", ".join(f"{name} at {group[0].rate:g}" for name, group in found.groups().items())
        raise ValueError(
            f"{needed_by} found no element-like dropout site with a rate above 0 in {type(model).__name__} "
            f"(found: {others or 'no site at all'}). Name the sites to drive with sites=."
        )
    return selected


class SiteDriver:
    """Claims sites for one callback, writes one value to all of them, and logs the rates that come of it.

    With ``how="set"`` the value is the rate of every site; with ``how="scale"`` it multiplies their base rates.

    Raises:
        ValueError: If another callback drives one of the sites.
    """

    def __init__(
        self,
        callback: Callback,
        trainer: Trainer,
        sites: Sites,
        *,
        model: nn.Module,
        how: How,
        globs: tuple[str, ...] | None,
    ) -> None:
        owner = str(callback)
        self.how = how
        self._shown = "dropout" if globs is None else f"dropout {' '.join(globs)}"
        self._writer = SiteWriter(sites, model=model, owner=owner)
        #: Gives the sites their rates; in every step, so without a call in between.
        self.write: Callable[[float], None] = self._writer.set if how == "set" else self._writer.scale
        self._bases = {name: _summary(list(group.base_rates().values())) for name, group in sites.groups().items()}
        groups = ", ".join(f"{name} ({len(group)})" for name, group in sites.groups().items())
        noun = "site" if len(sites) == 1 else "sites"
        rank_zero_info(f"{owner} drives {len(sites)} dropout {noun}: {groups}.")
        self._callback = callback
        self._rate_log = RateLog.of(trainer)
        self._rate_log.join(callback)

    def step(self, trainer: Trainer, module: LightningModule, value: float, progress: FitProgress) -> None:
        """Give the sites their rates for the step that is about to begin, and log them if the trainer logs it."""
        self.write(value)
        step = progress.logged_step(trainer)
        if step is not None:
            self._log(trainer, module, value, step=step)

    def _log(self, trainer: Trainer, module: LightningModule, value: float, *, step: int) -> None:
        """Log the rate of every group of sites, and the value in the progress bar where there is one."""
        if self.how == "set":
            groups = {name: RateSummary(value, value, value, base.num_sites) for name, base in self._bases.items()}
        else:
            groups = {name: base.scaled(value) for name, base in self._bases.items()}
        self._rate_log.add(self._callback, trainer, groups, step=step)
        if trainer.progress_bar_callback is not None:
            module.log(self._shown, value, prog_bar=True, logger=False, on_step=True, on_epoch=False, batch_size=1)

    def release(self) -> None:
        """Give the sites their base rates again and leave them to others."""
        self._rate_log.leave(self._callback)
        self._writer.release()


def _summary(rates: Sequence[float]) -> RateSummary:
    return RateSummary(min(rates), sum(rates) / len(rates), max(rates), len(rates))
