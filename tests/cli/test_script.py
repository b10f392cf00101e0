import json
import textwrap

import pytest
from lightning.pytorch.utilities import rank_zero_only

from lightning_dropout.cli.main import main

SCRIPT = """
    import json
    import sys
    from pathlib import Path

    import beside  # a module in the folder of the script
    import torch
    from lightning.pytorch import Trainer
    from lightning.pytorch.demos.boring_classes import BoringModel

    class MyTrainer(Trainer):
        pass

    if __name__ == "__main__":
        quiet = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False)
        trainer = {trainer}
        said = dict(
            world_size=trainer.world_size,
            precision=trainer.precision,
            environment=type(getattr(trainer.strategy, "cluster_environment", None)).__name__,
            argv=sys.argv,
        )
        Path("said.json").write_text(json.dumps(said))
"""


@pytest.fixture
def script(workplace):
    """Runs a script that builds a trainer in the given way; returns what it found."""
    (workplace / "scripts").mkdir()
    (workplace / "scripts/beside.py").touch()

    def run(trainer, *arguments):
        (workplace / "scripts/train.py").write_text(textwrap.dedent(SCRIPT.format(trainer=trainer)))
        assert main(["run", *arguments]) == 0
        return json.loads((workplace / "said.json").read_text())

    return run


@pytest.mark.parametrize(
    ("arguments", "own"),
    [
        (["scripts/train.py", "--precision", "bf16-mixed", "--lr", "3"], ["--lr", "3"]),
        (["scripts/train.py", "x", "--precision=bf16-mixed", "--", "--precision", "64"], ["x", "--precision", "64"]),
        (["model", "--precision=bf16-mixed", "scripts/train.py", "--lr=3"], ["--lr=3"]),
        (["--precision", "bf16-mixed", "scripts/train.py"], []),
    ],
)
def test_options_are_ours_and_other_arguments_are_the_scripts(arguments, own, script, capfd):
    said = script("Trainer(accelerator='cpu', **quiet)", *arguments)
    assert said["precision"] == "bf16-mixed"
    assert said["argv"] == ["scripts/train.py", *own]
    assert "lightning run:" not in capfd.readouterr().err


def test_what_the_script_says_wins_with_a_warning(script, capfd):
    options = ["--devices", "2", "--accelerator", "cpu", "--precision=64"]
    said = script(
        "Trainer(devices=1, accelerator='cpu', precision='bf16-mixed', **quiet)", "scripts/train.py", *options
    )
    assert (said["world_size"], said["precision"]) == (1, "bf16-mixed")
    warnings = [line for line in capfd.readouterr().err.splitlines() if line.startswith("lightning run:")]
    assert warnings == [
        "lightning run: train.py builds a Trainer with devices=1, which wins over --devices 2. "
        "Take it out of the script.",
        "lightning run: train.py builds a Trainer with precision='bf16-mixed', which wins over --precision 64. "
        "Take it out of the script.",
    ]


def test_a_trainer_class_of_ones_own_reads_no_variables(script, capfd):
    assert (
        script("MyTrainer(accelerator='cpu', **quiet)", "scripts/train.py", "--precision=64")["precision"] == "32-true"
    )
    assert "train.py builds a MyTrainer, which does not read --precision 64." in capfd.readouterr().err


def test_a_script_without_a_trainer(workplace, capfd):
    (workplace / "train.py").write_text("print('nothing')")
    assert main(["run", "train.py", "--devices", "2"]) == 0
    out, err = capfd.readouterr()
    assert out == "nothing\n"
    assert err == "lightning run: train.py built no Lightning Trainer, so --devices 2 had no effect.\n"


def test_devices_that_are_not_there(workplace, capfd):
    (workplace / "train.py").write_text("from lightning.pytorch import Trainer\nTrainer()")
    assert main(["run", "train.py", "--accelerator", "tpu", "--devices", "8"]) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("lightning-dropout: train.py under --accelerator tpu --devices 8: ")


def test_the_scripts_own_exit_code_and_errors_are_left_alone(workplace, capfd):
    (workplace / "train.py").write_text("raise SystemExit(3)")
    with pytest.raises(SystemExit) as exit:
        main(["run", "train.py"])
    assert exit.value.code == 3
    (workplace / "train.py").write_text("from lightning.pytorch import Trainer\nTrainer(max_epoch=3)")
    with pytest.raises(TypeError, match="max_epoch"):
        main(["run", "train.py", "--devices", "2"])


def test_slurm_decides_who_is_who(script, monkeypatch):
    tasks = {"JOB_NAME": "train", "NTASKS": "2", "NTASKS_PER_NODE": "2", "PROCID": "1", "LOCALID": "1", "NODEID": "0"}
    for name, value in {**tasks, "JOB_ID": "7", "NNODES": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setattr(rank_zero_only, "rank", 0)  # what the trainer sets is undone with it
    said = script("Trainer(**quiet)", "scripts/train.py", "--devices=2", "--accelerator=cpu", "--strategy=ddp")
    assert (said["environment"], said["world_size"]) == ("SLURMEnvironment", 2)


def test_nodes_are_told_apart_by_lightnings_variables(workplace, monkeypatch, capfd):
    monkeypatch.delenv("NODE_RANK", raising=False)
    (workplace / "node.py").write_text(
        "import os; print(*(os.environ[name] for name in ('NODE_RANK', 'MASTER_ADDR', 'MASTER_PORT')))"
    )
    main(["run", "node.py", "--node-rank", "1", "--main-address", "node0", "--main-port", "4000"])
    assert capfd.readouterr().out == "1 node0 4000\n"
