"""What a guard found, and how it reacts."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

from lightning.pytorch.utilities import rank_zero_warn

from lightning_dropout.sites import Sites

__all__ = ["DropoutModeError", "Reaction", "Violation", "Violations", "listed", "name_sites"]

Reaction: TypeAlias = Literal["warn", "raise", "fix"]
_MAX_NAMED = 8


class DropoutModeError(RuntimeError):
    """Dropout was off in training or on in evaluation, and the guard was told to raise."""


class Violation(NamedTuple):
    """What is wrong, where, and what to do about it."""

    what: str
    where: str
    advice: str

    def __str__(self) -> str:
        return f"{self.what}: {self.where}. {self.advice}"


class Violations:
    """Collects violations; warns of each once, or raises, in the same way on all ranks."""

    def __init__(self, reaction: Reaction) -> None:
        self.reaction = reaction
        self.found: list[Violation] = []
        #: What this rank has found and was not settled yet.
        self.pending: list[Violation] = []
        #: Names of the sites that were found to drop nothing in training, to tell it once.
        self.silent: set[str] = set()

    def add(self, what: str, where: str, advice: str) -> None:
        """Take in a violation of this rank."""
        violation = Violation(what, where, advice)
        if violation not in self.found and violation not in self.pending:
            self.pending.append(violation)

    def add_sites(self, sites: Sites, what: str, advice: str, *, training: bool) -> None:
        """Take in sites that act as in the wrong mode; ``training`` is the right one, and what a fix puts them into."""
        if len(sites) == 0:
            return
        noun, verb = ("site", "is") if len(sites) == 1 else ("sites", "are")
        self.add(f"{len(sites)} dropout {noun} with a rate above 0 {verb} {what}", name_sites(sites), advice)
        if self.reaction == "fix":
            for site in sites:
                site.module.training = training  # not train(): the mode of its children is judged on its own
        elif training:
            self.silent |= set(sites.rates())

    def settle(self, by_rank: Sequence[Sequence[Violation]]) -> None:
        """React to what the ranks had pending.

        Raises:
            DropoutModeError: If there is anything new, and the reaction is to raise.
        """
        ranks: dict[Violation, list[int]] = {}
        for rank, violations in enumerate(by_rank):
            for violation in violations:
                if violation not in self.found:
                    ranks.setdefault(violation, []).append(rank)
        self.pending = []
        self.found += ranks
        messages = [f"{violation}{_where(on, len(by_rank))}" for violation, on in ranks.items()]
        if messages and self.reaction == "raise":
            raise DropoutModeError(" ".join(messages))
        for message in messages:
            rank_zero_warn(f"ModeGuard: {message}")

    def tell(self) -> None:
        """Warn of what this rank has pending, where the others may not be there any more."""
        for violation in self.pending:
            warnings.warn(f"ModeGuard: {violation}", stacklevel=2)
        self.found += self.pending
        self.pending = []

    def __str__(self) -> str:
        if not self.found:
            return "nothing found"
        return f"{len(self.found)} found: " + "; ".join(
            f"{violation.what}: {violation.where}" for violation in self.found
        )


def _where(ranks: Sequence[int], num_ranks: int) -> str:
    return "" if len(ranks) == num_ranks else f" Found on rank {', '.join(map(str, ranks))} of {num_ranks}."


def listed(items: Sequence[object]) -> str:
    """The first of ``items``, and how many more there are."""
    more = f" and {len(items) - _MAX_NAMED} more" if len(items) > _MAX_NAMED else ""
    return ", ".join(map(str, items[:_MAX_NAMED])) + more


def name_sites(sites: Sites) -> str:
    """The names of sites, those of repeated blocks together."""
    groups = sites.groups().items()
    return listed([f"'{name}' ({len(group)})" if len(group) > 1 else f"'{group[0].name}'" for name, group in groups])
