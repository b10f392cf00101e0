"""One run of two ranks, however the two processes come about."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SCRIPTS = Path(sys.executable).parent
DEVICES = ["--devices", "2", "--accelerator", "cpu"]
SCRIPT = """
    import json
    import os
    import sys
    from pathlib import Path

    import torch
    from lightning.pytorch import Trainer
    from lightning.pytorch.demos.boring_classes import BoringModel

    if __name__ == "__main__":
        quiet = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False)
        trainer = Trainer(max_steps=2, **quiet)
        trainer.fit(BoringModel())
        said = [trainer.global_rank, trainer.world_size, trainer.global_step, sys.argv[1:]]
        Path(f"{os.getpid()}.json").write_text(json.dumps(said))
        torch.distributed.barrier()
        os._exit(0)  # gloo can abort a normal exit
"""


def finish(*command):
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=250, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    return done


def test_a_script_is_one_run_of_two_ranks(workplace):
    (workplace / "train.py").write_text(textwrap.dedent(SCRIPT))
    finish(SCRIPTS / "lightning-dropout", "run", "train.py", *DEVICES, "--lr", "3")
    said = sorted(json.loads(path.read_text()) for path in workplace.glob("*.json"))
    assert said == [[0, 2, 2, ["--lr", "3"]], [1, 2, 2, ["--lr", "3"]]]


@pytest.mark.parametrize(
    "command",
    [
        [SCRIPTS / "lightning-dropout"],
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node=2",
            "-m",
            "lightning_dropout",
        ],
    ],
    ids=["its own processes", "torchrun"],
)
def test_a_recipe_is_one_run_of_two_ranks(command, workplace, tiny):
    tiny = [option for option in tiny if not option.startswith(("--trainer.devices", "--trainer.accelerator"))]
    done = finish(*command, "run", "char-lm", *tiny, *DEVICES, "--strategy=ddp", "--run.wandb=disabled")
    assert done.stdout.count("best val_loss") == 1
    assert "on 2 ranks: nothing found." in done.stdout
    assert [path.name for path in (workplace / "runs/char-lm").iterdir()] == ["version_0"]
    assert len(list(workplace.rglob("*.ckpt"))) == 1
