import json
import re
import shutil

import pytest
from lightning_dropout_callbacks.overfitting_files import read_report

from lightning_dropout.cli.main import main
from lightning_dropout.cli.run_records import read_csv_logs, read_wandb_run


@pytest.fixture(autouse=True)
def _workplace(workplace):
    pass


@pytest.fixture
def run(finished_run, workplace):
    """A copy of a finished run."""
    return shutil.copytree(finished_run, workplace / "version_0", symlinks=True)


@pytest.fixture
def killed(run):
    """A run that has written no report."""
    for name in ("report.json", "report.html"):
        (run / name).unlink()
    return run


def reported(arguments, capsys, output="report.html"):
    assert main(["report", *map(str, arguments)]) == 0
    assert capsys.readouterr().out == f"report: {output}\n"
    with open(output, encoding="utf-8") as file:
        return file.read()


def without_pictures(page):
    return re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL)


def assert_same_measurements(found, expected):
    assert [(record.step, record.epoch) for record in found] == [(record.step, record.epoch) for record in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.values == pytest.approx(other.values, rel=1e-5)
        assert one.rates == pytest.approx({name: other.rates[name] for name in one.rates}, rel=1e-5)
        assert len(one.rates) == 4  # the groups that the scheduler drives


def test_a_finished_run_has_its_page_again(run, capsys):
    page = reported([run], capsys)
    assert without_pictures(page) == without_pictures((run / "report.html").read_text())
    assert "ModeGuard: nothing found." in page


def test_of_several_runs_the_latest_is_reported(run, workplace, capsys):
    content = json.loads((run / "report.json").read_text())
    content["configuration"]["title"] = "The latest"
    for number in (2, 10):
        (workplace / f"version_{number}").mkdir()
    (workplace / "version_10/report.json").write_text(json.dumps(content))
    assert "<h1>The latest</h1>" in reported([workplace, "--output", "new/page.html"], capsys, "new/page.html")


def test_a_killed_run_is_reported_from_its_metrics(killed, finished_run, capsys):
    page = reported([killed], capsys)
    assert "rebuilt from" in page
    assert "<h1>LanguageModel</h1>" in page
    assert "DropoutScheduler(" in page
    assert "Not known: there was no ModeGuard, or what it found was not kept." in page
    assert_same_measurements(read_csv_logs(killed).history(), read_report(finished_run / "report.json")[0])


def test_a_wandb_run_is_reported(killed, finished_run, capsys):
    (killed / "metrics.csv").unlink()
    page = reported([killed / "wandb"], capsys)
    assert "<h1>LanguageModel</h1>" in page
    assert "network.blocks.0.ff_sublayer" in page
    (file,) = killed.glob("wandb/offline-run-*/run-*.wandb")
    assert without_pictures(reported([file], capsys)).replace(str(file), "") == without_pictures(page).replace(
        str(file), ""
    )
    records = read_wandb_run(file)
    assert_same_measurements(records.history(), read_report(finished_run / "report.json")[0])
    assert records.config["model"]["init_args"]["lr"] == 0.002


def test_logs_of_ones_own_trainer_need_no_configuration(workplace, capsys):
    logs = workplace / "lightning_logs/version_3"
    logs.mkdir(parents=True)
    rows = ["epoch,step,overfit/train_loss,overfit/val_loss,overfit/gap_loss", "0,9,1.0,1.5,0.5", "1,19,0.5,2.0,1.5"]
    (logs / "metrics.csv").write_text("\n".join(rows))
    (logs / "hparams.yaml").write_text("width: 42\n")
    page = reported(["lightning_logs"], capsys)
    assert "<h1>version_3</h1>" in page
    assert "42" in page
    (logs / "hparams.yaml").write_text("network: !!python/object:mine.Network {}\n")
    assert "<h1>version_3</h1>" in reported(["lightning_logs"], capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is no RUN. See `lightning-dropout report --help`."),
        (["nowhere"], "there is no 'nowhere'. Give the folder of a run."),
        (["empty"], "empty holds neither report.json, metrics.csv nor run-*.wandb. Give the folder of a run."),
        (["damaged"], "damaged/report.json is damaged (JSONDecodeError("),
        (["plain"], "metrics.csv holds nothing that OverfittingMonitor measured (found: val_loss). Train with the"),
        (["run-1.wandb"], "run-1.wandb"),
        (["damaged", "--out=x"], "there is no option '--out'. Did you mean '--output'?"),
        (["good", "--output=empty"], "empty"),
    ],
)
def test_bad_input_is_one_line(arguments, message, workplace, finished_run, capsys):
    for name in ("empty", "damaged", "plain", "good"):
        (workplace / name).mkdir()
    (workplace / "damaged/report.json").write_text("{")
    (workplace / "plain/metrics.csv").write_text("epoch,step,val_loss\n0,9,1.0")
    (workplace / "run-1.wandb").write_bytes(b"no W&B run")
    shutil.copy(finished_run / "report.json", workplace / "good")
    assert main(["report", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
