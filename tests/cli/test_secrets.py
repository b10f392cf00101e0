import pytest
import torch

from lightning_dropout.cli.main import main

SECRETS = {
    "WANDB_API_KEY": "5ec2e7" * 6 + "cafe",
    "HF_TOKEN": "hf_planted0in0the0environment",
    "AWS_SECRET_ACCESS_KEY": "planted/in+the/environment",
}


@pytest.fixture
def environment(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


def test_no_key_is_written_anywhere(workplace, tiny, environment, capfd):
    assert main(["run", "char-lm", *tiny, "--run.wandb=offline"]) == 0
    run = workplace / "runs/char-lm/version_0"
    written = {path.relative_to(run): path.read_bytes() for path in run.rglob("*") if path.is_file()}
    kinds = {path.suffix for path in written}
    assert {".csv", ".yaml", ".ckpt", ".wandb"} <= kinds
    written["stdout"], written["stderr"] = (text.encode() for text in capfd.readouterr())
    for name, secret in SECRETS.items():
        assert [path for path, content in written.items() if secret.encode() in content] == [], name


def test_a_checkpoint_that_would_run_code_is_not_read(workplace, tiny, capfd):
    class Code:
        def __reduce__(self):
            return print, ("the checkpoint ran",)

    torch.save({"state_dict": {}, "code": Code()}, "bad.ckpt")
    assert main(["run", "char-lm", *tiny, "--run.wandb=disabled", "--ckpt_path=bad.ckpt"]) == 2
    out, err = capfd.readouterr()
    assert "the checkpoint ran" not in out
    assert err == (
        "lightning-dropout: the checkpoint holds more than tensors and plain values. Reading it could run code, so it "
        "is not read.\n"
    )
