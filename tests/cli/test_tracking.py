import pytest
import wandb

from lightning_dropout.cli.errors import UserError
from lightning_dropout.cli.tracking import wandb_mode

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
