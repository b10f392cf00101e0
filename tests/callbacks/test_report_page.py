from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning_dropout_callbacks.overfitting_files import read_report
from lightning_dropout_callbacks.overfitting_history import OverfittingRecord
from lightning_dropout_callbacks.rate_map import write_rate_map
from lightning_dropout_callbacks.report_page import report_html
from lightning_dropout_callbacks.run_configuration import RunConfiguration, SiteRow
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_dropout.callbacks import DropoutScheduler, ModeGuard, OverfittingMonitor


def record(step: int, *, gap: float = 1.0, rates: dict[str, float] | None = None) -> OverfittingRecord:
    values = {"overfit/train_loss": 1.0, "overfit/val_loss": 1.0 + gap, "overfit/gap_loss": gap, "overfit/state": 1.0}
    values |= {"overfit/dropout_noise_loss": 0.25, "overfit/slope_loss": 0.5}
    return OverfittingRecord(step, 0, values, {}, rates or {})


RATES = [{"blocks.0.ff": i / 10, "blocks.1.ff": 0.5} for i in range(6)]
HISTORY = [record(10 * i + 10, gap=0.1 * i, rates=rates) for i, rates in enumerate(RATES)]
CONFIGURATION = RunConfiguration(
    "Net <3", {"steps": "60"}, {"lr": "0.1"}, [SiteRow("blocks.0.ff", "element", 0.1)], ["OverfittingMonitor"]
)


class Page(HTMLParser):
    """Takes a page apart; an element that is not closed in order fails."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def _no_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)


def test_the_page_holds_everything_and_loads_nothing() -> None:
    page = Page(report_html(HISTORY, ["2 sites <b> are off"], CONFIGURATION))
    assert page.tags.count("svg") == 2  # the curves of the loss, and the rates of the sites
    assert not {"script", "link", "iframe", "img"} & set(page.tags)
    assert all(re.match(r"#|data:image/png;base64,", link) for link in page.links)
    for part in (
        "Net <3",
        "2 sites <b> are off",
        "The model overfits",
        "blocks.0.ff",
        "lr",
        "OverfittingMonitor",
        "0.25",
    ):
        assert part in page.text
    assert "6 validations" in page.text


@pytest.mark.usefixtures("_no_matplotlib")
def test_without_matplotlib_there_are_tables() -> None:
    page = Page(report_html(HISTORY, None, CONFIGURATION))
    assert "svg" not in page.tags
    assert "Pictures need matplotlib" in page.text
    assert "Not known: there was no ModeGuard, or what it found was not kept." in page.text
    assert "step 10" in page.text  # between which and the last step the rates are compared


@pytest.mark.parametrize(
    "history",
    [[], HISTORY[:1], [record(1, gap=float("nan"))], [record(i) for i in range(1000)]],
    ids=["empty", "one", "not finite", "long"],
)
def test_every_history_makes_a_page(history: list[OverfittingRecord]) -> None:
    text = report_html(history, [], RunConfiguration())
    assert Page(text).text.count("ModeGuard: nothing found.") == 1
    assert len(text) < 500_000


def test_rates_of_many_sites_that_come_and_go_can_be_drawn(tmp_path: Path) -> None:
    history = [record(i, rates={f"blocks.{j}.{'x' * 60}": 0.1 for j in range(i, 200)}) for i in range(1, 500, 50)]
    write_rate_map(history, tmp_path / "new" / "rates.png")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["rates.png"]


class Model(LightningModule):
    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)


def fit(module: LightningModule, folder: Path, *callbacks: Callback, **kwargs: Any) -> None:
    x = torch.randn(20, 4, generator=torch.Generator().manual_seed(1))
    loaders = [DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), batch_size=5) for _ in range(2)]
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=3,
        logger=CSVLogger(folder, name="", version=""),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **kwargs,
    )
    trainer.fit(module, *loaders)


def test_a_fit_leaves_a_report_that_can_be_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    monitor = OverfittingMonitor(2)
    scheduler = DropoutScheduler(lambda progress: 0.9 * progress)
    with caplog.at_level("INFO"):
        fit(Model(), tmp_path, monitor, ModeGuard(), scheduler)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    for part in ("reached its end", "ModeGuard: nothing found.", "net.1", "lr", "DropoutScheduler(", "Model", "12"):
        assert part in page.text
    history, findings, configuration = read_report(tmp_path / "report.json")
    assert history == monitor.history
    assert [record.site_rates["net.1"] for record in history] == pytest.approx([0.225, 0.525, 0.825])
    assert (findings, configuration.hyperparameters) == ([], {"lr": "0.1"})
    assert configuration.sites == [SiteRow("net.1", "element", 0.5)]
    without_pictures = re.compile("<svg.*?</svg>", re.DOTALL)
    again = report_html(history, findings, configuration)
    assert without_pictures.sub("", again) == without_pictures.sub("", text)
    # 2 batches in 3 validations, with dropout off and on.
    assert re.search(
        r"OverfittingMonitor ran validation_step on 12 training batches, which took \d+\.\d s, \d+\.\d% of the fit\.",
        caplog.text,
    )
    names = {"metrics.csv", "hparams.yaml", "overfitting.png", "dropout_rates.png", "report.html", "report.json"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_rates_that_stay_are_kept_once(tmp_path: Path) -> None:
    monitor = OverfittingMonitor(2)
    fit(Model(), tmp_path, monitor)
    assert len({id(record.site_rates) for record in monitor.history}) == 1  # so that a checkpoint holds them once
    records = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["history"]
    assert [record["site_rates"] for record in records] == [{"net.1": 0.5}, None, None]
    history, _, _ = read_report(tmp_path / "report.json")
    assert [record.site_rates for record in history] == [{"net.1": 0.5}] * 3
    assert not (tmp_path / "dropout_rates.png").exists()


@pytest.mark.parametrize("error", [RuntimeError("the user's own"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_a_fit_that_fails_leaves_a_report_too(error: BaseException, tmp_path: Path) -> None:
    class Failing(Model):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if self.current_epoch == 2:
                raise error
            return super().training_step(batch, batch_idx)

    with pytest.raises((RuntimeError, SystemExit, KeyboardInterrupt)):
        fit(Failing(), tmp_path, OverfittingMonitor())
    history, findings, configuration = read_report(tmp_path / "report.json")
    assert len(history) == 2
    assert findings is None
    assert configuration.facts["outcome"] == f"ended by {type(error).__name__} {error}".rstrip()
    assert "2 validations" in Page((tmp_path / "report.html").read_text(encoding="utf-8")).text


def test_a_fit_that_fails_before_anything_was_measured_leaves_none(tmp_path: Path) -> None:
    class Failing(Model):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            raise RuntimeError("the user's own")

    with pytest.raises(RuntimeError, match="the user's own"):
        fit(Failing(), tmp_path, OverfittingMonitor())
    assert not list(tmp_path.glob("report.*"))


def test_no_report_on_demand_or_in_a_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fit(Model(), tmp_path / "on demand", OverfittingMonitor(plot=False))
    fit(Model(), tmp_path / "trial", OverfittingMonitor(), fast_dev_run=True)
    assert not list(tmp_path.rglob("report.*")) + list(tmp_path.rglob("*.png"))


def test_a_report_that_cannot_be_written_is_named_and_training_goes_on(tmp_path: Path) -> None:
    class Obstruct(Callback):
        def on_train_start(self, *_: Any) -> None:
            (tmp_path / "report.html").mkdir()

    monitor = OverfittingMonitor()
    with pytest.warns(UserWarning, match=r"OverfittingMonitor cannot write report\.html: IsADirectoryError"):
        fit(Model(), tmp_path, monitor, Obstruct())
    assert len(monitor.history) == 3
