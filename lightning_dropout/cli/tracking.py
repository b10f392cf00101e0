"""Where a run is kept, and whether W&B follows it."""

from __future__ import annotations

import netrc
import os
import shutil
import ssl
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from lightning_dropout.cli.errors import UserError

if TYPE_CHECKING:
    import wandb

__all__ = ["Run", "finish_wandb", "wandb_mode"]


_WRITTEN_BEFORE_TRAINING = {"config.yaml", "hparams.yaml", "wandb"}
# What a process that is killed has logged is in the file but for the last second, and a server that has gone holds up
# the end of a run for no more than a minute: the file stays, for `wandb sync`.
_LASTING = {"x_transaction_log_flush_interval": 1.0, "finish_timeout": 60.0}
_SECONDS_TO_ANSWER = 5.0


class Run:
    """The folder of one run, and the loggers that write to it.

    Args:
        folder: Holds one folder for every run: version_0, version_1, and so on.
        wandb: online, offline or disabled. With auto, what the variable WANDB_MODE says; without it online where a
            W&B key is found and the server answers, offline elsewhere. Nothing ever asks for a key.
        project: The W&B project.
        export: A folder for the best weights in the layout of Hugging Face, with the tokenizer, which every run
            replaces; for networks that have ``save_pretrained``.
        next: A command that the closing summary suggests.
    """

    def __init__(
        self,
        folder: str,
        wandb: Literal["auto", "online", "offline", "disabled"] = "auto",
        project: str = "lightning-dropout",
        export: str | None = None,
        next: str | None = None,
    ) -> None:
        self._csv = CSVLogger(folder, name="")
        self.path = Path(self._csv.log_dir)
        self.wandb = wandb
        self.project = project
        self.export, self.next = export, next
        self._existing = _nearest_existing(self.path)

    def loggers(self) -> list[Logger]:
        """metrics.csv, and W&B unless it is disabled; nothing is written yet.

        Raises:
            UserError: If W&B was asked to be online, and there is no key, or its server does not answer.
        """
        mode = wandb_mode(self.wandb)
        if mode == "disabled":
            return [self._csv]
        import wandb

        if mode == "online" and (problem := _no_answer()) is not None:
            if "online" in (self.wandb, os.environ.get("WANDB_MODE")):
                raise UserError(f"W&B was asked to be online, but {problem}. Say --run.wandb offline.")
            rank_zero_only(print)(f"{problem[0].upper()}{problem[1:]}: this run is offline.")
            mode = "offline"
        _quiet_settings()
        # The closing summary says where an offline run is. Online, W&B itself tells the address at once.
        settings = wandb.Settings(silent=mode == "offline")
        known = wandb.Settings.model_fields
        settings.update_from_dict({name: value for name, value in _LASTING.items() if name in known})
        name = f"{self.path.parent.name}/{self.path.name}"
        tracker = WandbLogger(name, self.path, project=self.project, mode=mode, settings=settings)
        return [self._csv, tracker]

    def discard(self) -> None:
        """Remove the folder of a run that was refused before it measured anything, and the empty ones above it."""
        if self.path.exists() and {path.name for path in self.path.iterdir()} <= _WRITTEN_BEFORE_TRAINING:
            shutil.rmtree(self.path)
        for parent in self.path.absolute().parents:
            if parent == self._existing:
                return
            with suppress(OSError):  # another run lives there
                parent.rmdir()


def _nearest_existing(path: Path) -> Path:
    return next(parent for parent in path.absolute().parents if parent.exists())


def finish_wandb(exit_code: int) -> None:
    """Close the W&B run, if one is open: what is not closed is lost when the process is killed."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish(exit_code=exit_code)


def wandb_mode(asked: str) -> str:
    """online, offline or disabled, of what was ``asked`` for and what is found.

    Raises:
        UserError: If online was asked for, here or in WANDB_MODE, and there is no key.
    """
    chosen = os.environ.get("WANDB_MODE", asked) if asked == "auto" else asked
    if chosen in ("offline", "dryrun"):
        return "offline"
    if chosen == "disabled":
        return "disabled"
    if _key_found():
        return "online"
    if chosen == "auto":
        return "offline"
    raise UserError(
        "W&B was asked to be online, but there is no key in WANDB_API_KEY, netrc or the W&B settings. "
        "Say `wandb login`, or --run.wandb offline."
    )


def _no_answer() -> str | None:
    """Why the W&B server cannot be used now; without this, W&B would try for a minute and a half, and fail."""
    url = _quiet_settings().base_url
    try:
        urlopen(Request(url, method="HEAD"), timeout=_SECONDS_TO_ANSWER).close()
    except HTTPError:
        return None  # it answers
    except OSError as error:
        reason = error.reason if isinstance(error, URLError) else error
        return None if isinstance(reason, ssl.SSLError) else f"the W&B server at {url} does not answer ({reason})"
    return None


def _quiet_settings() -> wandb.Settings:
    import wandb

    # Silent, or W&B warns of the deprecated argument that Lightning always passes.
    return wandb.setup(wandb.Settings(silent=True)).settings


def _key_found() -> bool:
    settings = _quiet_settings()
    if settings.api_key or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    candidates = [os.environ["NETRC"]] if "NETRC" in os.environ else ["~/.netrc", "~/_netrc"]
    for path in map(os.path.expanduser, candidates):
        try:
            if netrc.netrc(path).authenticators(urlsplit(settings.base_url).netloc):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False
