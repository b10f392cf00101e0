"""``run RECIPE|FILE.yaml|SCRIPT.py``: from a name to a finished training run."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_dropout.cli.errors import UserError
from lightning_dropout.cli.process import environment
from lightning_dropout.cli.recipes import find_recipe, recipe_table

__all__ = ["run"]

# The options that Lightning's Trainer knows by the same names.
_TRAINER_OPTIONS = ("accelerator", "devices", "num_nodes", "precision", "strategy")
# What Lightning reads from the environment when a command is started once on every node.
_NODE_VARIABLES = {"node_rank": "NODE_RANK", "main_address": "MASTER_ADDR", "main_port": "MASTER_PORT"}

_HELP = """\
usage: lightning run RECIPE|FILE.yaml|SCRIPT.py [options]
       lightning run --list
       (`lightning-dropout run` is the same)

Trains a recipe, what a YAML file describes, or whatever a script of your own trains:

  lightning run char-lm
  lightning run ./my.yaml --devices 2 --strategy ddp
  lightning run train.py --devices 2 --accelerator cpu

options:
  --devices N           how many devices, or which       lightning run char-lm --devices 2
  --accelerator A       cpu, gpu, ...                    lightning run char-lm --accelerator cpu
  --strategy S          ddp, fsdp, ...                   lightning run char-lm --devices 2 --strategy ddp
  --precision P         32-true, bf16-mixed, ...         lightning run char-lm --precision bf16-mixed
  --num-nodes N         machines; on each of them also --node-rank, --main-address and --main-port, unless torchrun
                        or SLURM starts the command      lightning run char-lm --num-nodes 2 --node-rank 1 ...

Behind a recipe or a YAML file, every LightningCLI override:

  lightning run char-lm --trainer.max_epochs 3 --model.lr 1e-3
  lightning run char-lm --data.files mine.txt
  lightning run char-lm --run.wandb online
  lightning run char-lm --print-config

`lightning run RECIPE --help` lists them all. Other arguments behind a script are the script's own, and so is everything
behind --. What a script itself gives its Trainer wins over the options above; a warning says so.

  lightning run train.py --devices 2 --lr 1e-3
  lightning run train.py --devices 2 -- --precision double"""


def run(arguments: Sequence[str]) -> int:
    """Train the recipe or the script that ``arguments`` name, under the options around it.

    Raises:
        UserError: If the recipe, an option or the data cannot be used.
    """
    if arguments[:1] in (["-h"], ["--help"]):
        print(_HELP)
        return 0
    if arguments[:1] == ["--list"]:
        print(recipe_table())
        return 0
    target, options, rest = _split(arguments[1:] if arguments[:1] == ["model"] else arguments)
    path = find_recipe(target)
    trainer = {name: options[name] for name in _TRAINER_OPTIONS if name in options}
    with environment({variable: options[name] for name, variable in _NODE_VARIABLES.items() if name in options}):
        if path.suffix == ".py":
            from lightning_dropout.cli.script import run_script

            return run_script(path, rest, trainer)
        from lightning_dropout.cli.training import launch

        overrides = [f"--trainer.{name}={value}" for name, value in trainer.items()]
        return launch(["fit", "--config", str(path), *rest, *overrides], name=path.stem)


def _split(arguments: Sequence[str]) -> tuple[str, dict[str, str], list[str]]:
    """What to run, the options above wherever they stand, and everything else in its order."""
    target: str | None = None
    options: dict[str, str] = {}
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        option, equals, value = word.removeprefix("--").partition("=")
        name = option.replace("-", "_")
        if word == "--":
            rest += words
        elif word.startswith("--") and (name in _TRAINER_OPTIONS or name in _NODE_VARIABLES):
            value = value if equals else next(words, "")
            if not value or value.startswith("--"):
                raise UserError(f"--{option} is given no value. See `lightning run --help`.")
            options[name] = value
        elif target is not None:
            rest.append(word)
        elif word.startswith("-"):
            raise UserError(f"found the option {word!r} first. Name the recipe first, then the options.")
        else:
            target = word
    if target is None:
        raise UserError("name a recipe, a YAML file or a script. `lightning run --list` lists the recipes.")
    return target, options, rest
