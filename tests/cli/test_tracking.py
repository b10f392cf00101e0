import signal
import subprocess
import sys

import pytest
import wandb

from lightning_dropout.cli.errors import UserError
from lightning_dropout.cli.tracking import Run, finish_wandb, wandb_mode
from tests.wandb_server import offline_records, wandb_environment, wandb_server

KEY = "0" * 40


@pytest.fixture(autouse=True)
def host(workplace, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    return "wandb.example.org"


def test_without_a_key_a_run_is_offline(workplace):
    assert wandb_mode("auto") == "offline"
    assert list(workplace.iterdir()) == []


def test_a_key_in_the_environment_is_found(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert wandb_mode("auto") == wandb_mode("online") == "online"


@pytest.mark.parametrize(("machine", "mode"), [("wandb.example.org", "online"), ("other.example.org", "offline")])
def test_a_key_in_netrc_is_found_under_its_host(machine, mode, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text(f"machine {machine} login user password {KEY}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert wandb_mode("auto") == mode


def test_what_was_said_wins_over_the_key(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert wandb_mode("offline") == "offline"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert wandb_mode("auto") == "offline"
    assert wandb_mode("online") == "online"


@pytest.mark.parametrize("variable", [True, False])
def test_online_without_a_key_is_refused(variable, monkeypatch):
    if variable:
        monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.raises(UserError, match="^W&B was asked to be online, but there is no key in WANDB_API_KEY"):
        wandb_mode("auto" if variable else "online")


def test_a_key_in_the_settings_is_found(monkeypatch):
    wandb.setup().settings.update_from_dict({"api_key": KEY})
    assert wandb_mode("auto") == "online"


def test_a_server_that_does_not_answer_makes_a_run_offline(workplace, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    _, tracker = Run("runs").loggers()
    assert tracker.experiment.offline
    line = (
        "The W&B server at http://127.0.0.1:9 does not answer ([Errno 111] Connection refused): this run is offline.\n"
    )
    assert capsys.readouterr().out == line
    finish_wandb(exit_code=0)


def test_a_server_that_does_not_answer_is_named_where_it_was_asked_for(workplace, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    with pytest.raises(
        UserError, match=r"^W&B was asked to be online, but the W&B server at http://127.0.0.1:9 does not"
    ):
        Run("runs", wandb="online").loggers()


def test_a_run_is_online_where_the_server_answers(workplace, monkeypatch):
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        _, tracker = Run("runs").loggers()
        tracker.log_metrics({"loss": 1.0}, step=3)
        run = tracker.experiment.id
        finish_wandb(exit_code=0)
        assert server.history(run) == [{"loss": 1.0, "trainer/global_step": 3}]


def test_a_run_that_is_killed_keeps_what_it_logged_a_second_before(workplace):
    script = """
import os, signal, time
from lightning_dropout.cli.tracking import Run
_, tracker = Run("runs", wandb="offline").loggers()
tracker.log_metrics({"loss": 1.0}, step=3)
time.sleep(2.5)
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", script], env=wandb_environment(), timeout=120)
    assert killed.returncode == -signal.SIGKILL
    (run,) = workplace.glob("runs/version_0/wandb/offline-run-*/*.wandb")
    assert [row["item"]["loss"] for row in offline_records(run)["history"]] == [1.0]
