"""Try what may not work with a user's module, and say once what did not."""

from __future__ import annotations

from collections.abc import Callable

from lightning.pytorch.utilities import rank_zero_warn

from lightning_dropout_callbacks.log_capture import gather

__all__ = ["Trials"]


class Trials:
    """Leaves out, on all ranks, what failed on any rank when it was tried first.

    What worked once is trusted: if it fails later, the exception is for the user to see.
    """

    def __init__(self, owner: str, *, advice: str) -> None:
        self._owner, self._advice = owner, advice
        self._works: dict[str, bool] = {}
        self._named: set[str] = set()

    @property
    def has_failures(self) -> bool:
        """Whether something was named."""
        return bool(self._named)

    def attempt(self, what: str, run: Callable[[], None]) -> bool:
        """Run it, unless it is left out; returns whether it works."""
        if what not in self._works:
            reason = None
            try:
                run()
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
            reasons = [each for each in gather(reason) if each is not None]
            self._works[what] = not reasons
            if reasons:
                self.name(what, reasons[0], self._advice)
        elif self._works[what]:
            run()
        return self._works[what]

    def name(self, what: str, reason: str, advice: str = "") -> None:
        """Say what does not work, and why, once."""
        if what not in self._named:
            self._named.add(what)
            rank_zero_warn(
                f"{self._owner} cannot {what}: {reason.rstrip('.')}. Training goes on without. {advice}".strip()
            )
