from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.tuner import Tuner
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_dropout.callbacks import AdaptiveDropout, DropoutScheduler, OverfittingMonitor
from lightning_dropout.sites import find_sites

FLAGS = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}


class Model(LightningModule):
    """A wide network, for too few samples of noise: it can only memorise."""

    def __init__(self, rate: float = 0.1, *, name: str = "val_loss") -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Dropout((i + 1) * rate), nn.Linear(64, 8)) for i in range(2)
        )
        self.head = nn.Linear(8, 1)
        self.name = name

    def loss(self, batch: list[Tensor]) -> Tensor:
        x, y = batch
        for block in self.blocks:
            x = x + block(x)
        return nn.functional.mse_loss(self.head(x), y)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.loss(batch)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log(self.name, self.loss(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 1e-2)


class Recorder(Callback):
    def __init__(self) -> None:
        self.rates: list[dict[str, float]] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self.rates.append(find_sites(pl_module).rates())

    def of(self, name: str) -> list[float]:
        return [rates[name] for rates in self.rates]


def loader(seed: int, *, noise: bool = True) -> DataLoader[Any]:
    num_samples = 32 if noise else 512
    x = torch.randn(num_samples, 8, generator=torch.Generator().manual_seed(seed))
    y = torch.randn(32, 1, generator=torch.Generator().manual_seed(seed + 1)) if noise else x.mean(1, keepdim=True)
    return DataLoader(TensorDataset(x, y), batch_size=num_samples // 2)


def fit(
    model: Model, *callbacks: Callback, noise: bool = True, ckpt_path: Path | None = None, **kwargs: Any
) -> Trainer:
    seed_everything(0, verbose=False)
    settings = {"max_epochs": 20, "enable_checkpointing": False, "num_sanity_val_steps": 1, **FLAGS, **kwargs}
    trainer = Trainer(accelerator="cpu", callbacks=[OverfittingMonitor(plot=False), *callbacks], **settings)
    trainer.fit(model, loader(0, noise=noise), loader(2, noise=noise), ckpt_path=ckpt_path)
    return trainer


def test_a_model_that_memorises_gets_more_dropout_and_its_own_rates_back() -> None:
    model, recorder, adaptive = Model(), Recorder(), AdaptiveDropout()
    fit(model, adaptive, recorder)
    rates = recorder.of("blocks.0.2")
    assert rates[0] == pytest.approx(0.15), "the mean of the base rates"
    assert rates == recorder.of("blocks.1.2")
    assert max(rates) > 0.5
    assert rates[-1] < 0.5 * max(rates), "it cools down"
    assert adaptive.rate > 0.5
    assert adaptive.reason == "holds: the last 10% of a fit cool down"
    assert find_sites(model).rates() == {"blocks.0.2": 0.1, "blocks.1.2": 0.2}


def test_a_model_that_still_learns_the_same_on_both_sides_gets_less_dropout() -> None:
    recorder = Recorder()
    fit(Model(0.3), AdaptiveDropout(cooldown=0.0), recorder, noise=False, max_epochs=8)
    rates = recorder.of("blocks.0.2")
    assert rates[0] == pytest.approx(0.45)
    assert rates[-1] < 0.4


def test_scale_keeps_the_ratios_of_the_base_rates() -> None:
    recorder = Recorder()
    fit(Model(), AdaptiveDropout("blocks.*", "scale", bounds=(0.0, 0.5)), recorder)
    assert recorder.rates[0] == pytest.approx({"blocks.0.2": 0.1, "blocks.1.2": 0.2})
    assert max(recorder.of("blocks.0.2")) > 0.2
    for rates in recorder.rates:
        assert rates["blocks.1.2"] == pytest.approx(2 * rates["blocks.0.2"])


def test_several_drive_several_groups_with_a_start_and_bounds_of_their_own() -> None:
    recorder = Recorder()
    first = AdaptiveDropout("blocks.0.*", start=0.3, bounds=(0.1, 0.4))
    second = AdaptiveDropout("blocks.1.*", bounds=(0.0, 0.25))
    trainer = fit(Model(), first, second, recorder)
    assert recorder.of("blocks.0.2")[0] == 0.3
    assert (first.rate, second.rate) == (0.4, 0.25)
    assert recorder.of("blocks.0.2")[-1] > 0.1
    assert len({callback.state_key for callback in trainer.callbacks}) == len(trainer.callbacks)


def test_two_drivers_of_one_site_are_refused() -> None:
    with pytest.raises(ValueError, match=r"both drive site 'blocks.1.2'"):
        fit(Model(), AdaptiveDropout(), DropoutScheduler(0.2, sites="blocks.1.*"))


def test_a_resumed_run_goes_on_as_an_uninterrupted_one(tmp_path: Path) -> None:
    class Save(Callback):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if trainer.current_epoch == 9:
                trainer.save_checkpoint(tmp_path / "last.ckpt")

    whole, resumed, adaptive = Recorder(), Recorder(), AdaptiveDropout()
    fit(Model(), AdaptiveDropout(), whole, Save())
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"]
    fit(Model(), adaptive, resumed, ckpt_path=tmp_path / "last.ckpt")
    assert saved[adaptive.state_key]["rate"] == resumed.of("blocks.0.2")[0] > 0.15
    assert len(whole.rates) == 2 * len(resumed.rates) == 40
    # Masks are drawn anew, so the decisions after the next validation need not be the same.
    assert resumed.rates[:2] == whole.rates[20:22]


def test_a_second_fit_starts_anew() -> None:
    adaptive, recorder = AdaptiveDropout(), Recorder()
    for _ in range(2):
        fit(Model(), adaptive, recorder)
    assert recorder.of("blocks.0.2")[20 * 2] == pytest.approx(0.15)


def test_a_tuner_leaves_no_trace(tmp_path: Path) -> None:
    class Tunable(Model):
        lr = 1e-2

    model, adaptive, recorder = Tunable(), AdaptiveDropout(), Recorder()
    trainer = Trainer(
        accelerator="cpu", max_epochs=2, callbacks=[OverfittingMonitor(plot=False), adaptive, recorder],
        default_root_dir=tmp_path, enable_checkpointing=False, **FLAGS,
    )  # fmt: skip
    Tuner(trainer).lr_find(model, loader(0), loader(2), num_training=5, update_attr=False)
    assert find_sites(model).rates() == {"blocks.0.2": 0.1, "blocks.1.2": 0.2}
    recorder.rates.clear()
    trainer.fit(model, loader(0), loader(2))
    assert recorder.of("blocks.0.2") == [pytest.approx(0.15)] * 4


def test_rates_are_logged_and_turns_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        fit(Model(), AdaptiveDropout(), logger=CSVLogger(tmp_path, version=0), log_every_n_steps=4)
    rows = list(csv.DictReader((tmp_path / "lightning_logs/version_0/metrics.csv").read_text().splitlines()))
    logged = [float(row["dropout/blocks"]) for row in rows if row.get("dropout/blocks")]
    assert len(logged) == 10
    assert max(logged) > 0.5
    said = [record.message for record in caplog.records if record.message.startswith("AdaptiveDropout(how='set')")]
    assert said[0] == "AdaptiveDropout(how='set') drives 2 dropout sites: blocks (2)."
    assert any("rises: the validation loss is" in message for message in said)
    assert len(said) < 10


@pytest.mark.parametrize("settings", [{}, {"accumulate_grad_batches": 2}, {"max_epochs": -1, "max_steps": 37}])
def test_steps_in_which_it_does_nothing_have_the_rates_of_those_in_which_it_does(settings: dict[str, Any]) -> None:
    found = []
    for every in (1, 7, 0):  # it acts in every step that is logged
        recorder = Recorder()
        options = {"log_every_n_steps": every, "check_val_every_n_epoch": 4, **settings}
        seed_everything(0, verbose=False)
        fit(Model(), AdaptiveDropout(cooldown=0.35), recorder, **options)
        found.append(recorder.rates)
    assert found[0] == found[1] == found[2]
    rates = [step["blocks.0.2"] for step in found[0]]
    assert len(set(rates)) >= len(rates) * 0.3 / settings.get("accumulate_grad_batches", 1)


def test_a_rate_that_somebody_overwrites_comes_back_at_the_next_step_that_is_logged() -> None:
    class Meddler(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
            if trainer.global_step == 3:
                pl_module.blocks[0][2].p = 0.77  # type: ignore[index, union-attr]

    recorder = Recorder()
    fit(Model(), AdaptiveDropout(), Meddler(), recorder, log_every_n_steps=7, check_val_every_n_epoch=10)
    assert recorder.of("blocks.0.2")[:8] == pytest.approx([0.15] * 3 + [0.77] * 3 + [0.15] * 2)


def test_without_a_monitor_it_does_not_start() -> None:
    settings = {"max_epochs": 1, "enable_checkpointing": False, **FLAGS}
    trainer = Trainer(accelerator="cpu", callbacks=[AdaptiveDropout()], **settings)
    with pytest.raises(
        ValueError, match=r"needs to know the gap. Add OverfittingMonitor\(\) to the trainer's callbacks"
    ):
        trainer.fit(Model(), loader(0), loader(2))


def test_a_metric_that_was_not_measured_is_named() -> None:
    with pytest.raises(
        ValueError,
        match=r"needs overfit/train_loss and overfit/val_loss, .* \(found: overfit/train_mse.*\)\. .* change metric=",
    ):
        fit(Model(name="val_mse"), AdaptiveDropout())
    fit(Model(name="val_mse"), AdaptiveDropout(metric="mse"), max_epochs=2)


def test_rates_come_back_after_an_exception() -> None:
    class Failing(Callback):
        def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if trainer.current_epoch == 8:
                raise RuntimeError("user code")

    model = Model()
    with pytest.raises(RuntimeError, match="user code"):
        fit(model, AdaptiveDropout(), Failing())
    assert find_sites(model).rates() == {"blocks.0.2": 0.1, "blocks.1.2": 0.2}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"how": "add"}, "how is 'set' or 'scale'"),
        ({"target": 0.0}, "target is 0.0"),
        ({"bounds": (0.5, 0.2)}, r"AdaptiveDropout\(how='set'\): bounds are \(0.5, 0.2\)"),
        ({"start": 0.95}, "start rate 0.95 is out of the bounds"),
        ({"cooldown": 1.5}, "cooldown is 1.5"),
        ({"total_steps": 0}, "total_steps=0.*give a whole number from 1 on"),
    ],
)
def test_arguments_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdaptiveDropout(**settings)


@pytest.mark.parametrize(
    ("adaptive", "rate", "message"),
    [
        (AdaptiveDropout("blok*"), 0.1, r"AdaptiveDropout\(sites=\['blok\*'\]\): 'blok\*' matches no dropout site"),
        (AdaptiveDropout(), 0.0, "found no element-like dropout site with a rate above 0"),
        (AdaptiveDropout(bounds=(0.0, 0.1)), 0.1, "start rate 0.15 is out of the bounds"),
        (AdaptiveDropout("blocks.*", "scale"), 0.0, "all base rates are 0, and 0 scales to nothing"),
        (AdaptiveDropout("blocks.*", "scale", bounds=(0, 0.9)), 0.1, "the highest rate would be 1.2. Lower the upper"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_before_the_first_step(
    adaptive: AdaptiveDropout, rate: float, message: str
) -> None:
    recorder = Recorder()
    with pytest.raises(ValueError, match=message):
        fit(Model(rate), adaptive, recorder)
    assert recorder.rates == []


SCRIPT = """
from test_adaptive_dropout import AdaptiveDropout, Model, Recorder, fit

recorder = Recorder()
fit(Model(), AdaptiveDropout(), recorder, devices=2, strategy="ddp")
result = recorder.of("blocks.0.2")
"""


def test_two_ranks_have_the_same_rates(run_ranks: Callable[..., Any]) -> None:
    first, second = run_ranks(SCRIPT, beside=__file__)
    assert first == second
    assert len(set(first)) > 3
