"""What a user can mend is said in one line; everything else keeps its traceback."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from types import TracebackType

__all__ = ["UserError", "mendable", "one_line", "refused_by_trainer"]

_OURS = ("lightning_dropout", "lightning_dropout_callbacks")
_ENVIRONMENT = (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)


class UserError(Exception):
    """Bad input: the command prints its one line and exits with code 2."""


def mendable(error: BaseException) -> str | None:
    """The line that tells a user how to mend ``error``, or None if it is a bug, in whosever code.

    Mendable is what our own code refused with a ``raise ValueError``, what Lightning calls a misconfiguration, a file
    that is missing or out of reach, a W&B server that is not to be had, and weights that do not fit. Libraries between
    us and the user wrap such errors in their own, so the causes are looked at too.
    """
    for cause in _causes(error):
        if (
            isinstance(cause, (UserError, *_ENVIRONMENT))
            or _is_misconfiguration(cause)
            or (isinstance(cause, (ValueError, ImportError)) and _raised_by_us(cause.__traceback__))
        ):
            return one_line(cause)
        if type(cause).__module__.startswith("wandb.errors"):
            return one_line(f"W&B: {cause} Say --run.wandb offline to train without a server.")
        if isinstance(cause, RuntimeError) and str(cause).startswith("Error(s) in loading state_dict"):
            return one_line(f"the checkpoint is of another model. {cause}")
    return None


def refused_by_trainer(error: Exception) -> bool:
    """Whether ``error``, raised while a Trainer was built, is Lightning's word on an argument; it has four."""
    return isinstance(error, (ValueError, TypeError, ImportError)) or _is_misconfiguration(error)


def _is_misconfiguration(error: BaseException) -> bool:
    return type(error).__name__ == "MisconfigurationException"  # Lightning has one in each of its packages


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _raised_by_us(traceback: TracebackType | None) -> bool:
    """Whether a ``raise`` statement of ours is where the error began, and not an operation that failed."""
    if traceback is None:
        return False
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    frame = traceback.tb_frame
    package = frame.f_globals.get("__name__", "").partition(".")[0]
    return package in _OURS and dis.opname[frame.f_code.co_code[traceback.tb_lasti]] == "RAISE_VARARGS"


def one_line(message: object) -> str:
    """A message, or what an exception says, without its line breaks."""
    return " ".join(str(message).split())
