"""What a user can mend is said in one line; everything else keeps its traceback."""

from __future__ import annotations

import dis
import re
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENAMETOOLONG, ENOSPC, EROFS
from pickle import UnpicklingError
from types import TracebackType

__all__ = ["UserError", "configuring", "mendable", "one_line", "refused_by_trainer"]

_OURS = ("lightning_dropout", "lightning_dropout_callbacks")
_UNCHECKED_GROUP = re.compile(r"argument after \*\* must be a mapping, not ")
_TAKERS = ("torch.optim.", "torch.utils.data.")  # take values of the configuration after the model is built
_LIBRARIES = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
_ENVIRONMENT = (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)


class UserError(Exception):
    """Bad input: the command prints its one line and exits with code 2."""


def mendable(error: BaseException) -> str | None:
    """The line that tells a user how to mend ``error``, or None if it is a bug, in whosever code.

    Mendable is what our own code, or a class of torch that we hand a value to, refused with a ``raise ValueError``;
    what Lightning calls a misconfiguration; a file that is missing or out of reach; a W&B server that is not to be
    had; and weights that do not fit. Libraries between us and the user wrap such errors in their own, so the causes
    are looked at too.
    """
    for cause in _causes(error):
        if (
            isinstance(cause, (UserError, *_ENVIRONMENT))
            or (isinstance(cause, OSError) and cause.errno in (ENAMETOOLONG, ENOSPC, EROFS))
            or _is_misconfiguration(cause)
            or (isinstance(cause, (ValueError, ImportError)) and _is_refusal(cause.__traceback__))
        ):
            return one_line(cause)
        if type(cause).__module__.startswith("wandb.errors"):
            return one_line(f"W&B: {cause} Say --run.wandb offline to train without a server.")
        if isinstance(cause, RuntimeError) and str(cause).startswith("Error(s) in loading state_dict"):
            return one_line(f"the checkpoint is of another model. {cause}")
        if isinstance(cause, UnpicklingError):
            return (
                "the checkpoint holds more than tensors and plain values. Reading it could run code, so it is not read."
            )
    return None


def refused_by_trainer(error: Exception) -> bool:
    """Whether ``error``, raised while a Trainer was built, is Lightning's word on an argument; it has four."""
    return isinstance(error, (ValueError, TypeError, ImportError)) or _is_misconfiguration(error)


@contextmanager
def configuring() -> Iterator[None]:
    """Call it a user's error when a library fails at what the configuration says, before anything has run.

    An error that passes through code of the user's own keeps its traceback.
    """
    try:
        yield
    except (UserError, Warning):
        raise
    except Exception as error:
        if mendable(error) is not None or _is_of_users_code(error.__traceback__):
            raise
        if isinstance(error, UnicodeDecodeError):
            raise UserError(f"a configuration file is not text in UTF-8: {error}") from error
        if _UNCHECKED_GROUP.search(str(error)):  # the one thing that jsonargparse lets pass, and then stumbles over
            raise UserError("a group of keys is given as an empty list. Give a mapping, or leave it out.") from error
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise UserError(kind + one_line(error)) from error


def _is_of_users_code(traceback: TracebackType | None) -> bool:
    while traceback is not None:
        code, package = traceback.tb_frame.f_code, traceback.tb_frame.f_globals.get("__name__", "").partition(".")[0]
        if package not in _OURS and not code.co_filename.startswith(("<", *_LIBRARIES)):
            return True
        traceback = traceback.tb_next
    return False


def _is_misconfiguration(error: BaseException) -> bool:
    return type(error).__name__ == "MisconfigurationException"  # Lightning has one in each of its packages


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _is_refusal(traceback: TracebackType | None) -> bool:
    """Whether a ``raise`` of ours, or of torch to what we passed on, began the error, and not a failed operation."""
    if traceback is None:
        return False
    passed_on = not _is_of_users_code(traceback)
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    frame = traceback.tb_frame
    module = frame.f_globals.get("__name__", "")
    refuses = module.partition(".")[0] in _OURS or (passed_on and module.startswith(_TAKERS))
    return refuses and dis.opname[frame.f_code.co_code[traceback.tb_lasti]] == "RAISE_VARARGS"


def one_line(message: object) -> str:
    """A message, or what an exception says, without its line breaks."""
    return " ".join(str(message).split())
