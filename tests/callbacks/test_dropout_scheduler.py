from __future__ import annotations

import csv
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.tuner import Tuner
from torch import Tensor, nn

from lightning_dropout.callbacks import DropoutScheduler, ModeGuard
from lightning_dropout.layers import Dropout
from lightning_dropout.schedules import Constant, Early, Linear
from lightning_dropout.sites import find_sites


class Model(BoringModel):
    """Three blocks of one of our sites and one of torch's, and a path site that no default drives."""

    def __init__(self, *, compiled: bool = False) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"ff": Dropout(0.1 * (i + 1)), "attn": nn.MultiheadAttention(32, 2, dropout=0.2)})
            for i in range(3)
        )
        self.off = nn.Dropout(0.0)
        self.layer = torch.compile(self.layer) if compiled else self.layer

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block["ff"](x)
        return self.layer(x)


class Recorder(Callback):
    def __init__(self) -> None:
        self.rates: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self.rates.append(find_sites(pl_module).rates())


def trainer(*callbacks: Callback, **kwargs: Any) -> Trainer:
    defaults = {
        "max_epochs": 2,
        "limit_train_batches": 4,
        "limit_val_batches": 1,
        "logger": False,
        "enable_progress_bar": False,
    }
    return Trainer(
        accelerator="cpu",
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        **{**defaults, **kwargs},
    )


def logged_rates(logger: CSVLogger) -> dict[str, dict[int, float]]:
    """What was logged under every name, by step; at most once a step."""
    found: dict[str, dict[int, float]] = {}
    with open(Path(logger.log_dir) / "metrics.csv") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if name.startswith("dropout/") and value:
                    assert int(row["step"]) not in found.setdefault(name, {})
                    found[name][int(row["step"])] = float(value)
    return found


def test_sets_what_the_author_turned_on_and_restores_it() -> None:
    model, recorder = Model(), Recorder()
    before = find_sites(model).rates()
    trainer(DropoutScheduler(Linear(0.0, 0.8)), recorder).fit(model)
    assert [rates["blocks.0.ff"] for rates in recorder.rates] == pytest.approx([0.1 * i for i in range(8)])
    assert [rates["blocks.2.attn"] for rates in recorder.rates] == pytest.approx([0.1 * i for i in range(8)])
    assert {rates["off"] for rates in recorder.rates} == {0.0}
    assert find_sites(model).rates() == before


def test_scale_keeps_the_profile_of_the_sites() -> None:
    model, recorder = Model(), Recorder()
    trainer(DropoutScheduler(Linear(1.0, 0.0), sites="ff", how="scale"), recorder).fit(model)
    assert [rates["blocks.2.ff"] for rates in recorder.rates] == pytest.approx([0.3 * (1 - i / 8) for i in range(8)])
    assert [rates["blocks.0.ff"] for rates in recorder.rates] == pytest.approx([0.1 * (1 - i / 8) for i in range(8)])
    assert {rates["blocks.2.attn"] for rates in recorder.rates} == {0.2}


def test_several_schedulers_drive_several_groups() -> None:
    model, recorder = Model(), Recorder()
    schedulers = DropoutScheduler(0.7, sites="ff"), DropoutScheduler(lambda t: t, sites=["attn", "off"])
    trainer(*schedulers, recorder).fit(model)
    assert {rates["blocks.1.ff"] for rates in recorder.rates} == {0.7}
    assert [rates["off"] for rates in recorder.rates] == pytest.approx([i / 8 for i in range(8)])
    assert len({scheduler.state_key for scheduler in schedulers}) == 2


def test_rates_of_several_schedulers_are_logged_in_one_row_a_step(tmp_path: Path) -> None:
    schedulers = [DropoutScheduler(0.7, sites="ff"), DropoutScheduler(lambda t: t, sites=["attn", "off"])]
    for version in range(2):
        logger = CSVLogger(tmp_path, version=version)
        trainer(*schedulers, logger=logger, log_every_n_steps=2).fit(Model())
        rates = logged_rates(logger)
        assert len(rates) > 2
        assert {tuple(steps) for steps in rates.values()} == {(1, 3, 5, 7)}
        with open(Path(logger.log_dir) / "metrics.csv") as file:
            rows = [row for row in csv.DictReader(file) if any(row[name] for name in rates)]
        assert len(rows) == 4


def test_a_constant_rate_needs_no_end_of_the_fit() -> None:
    model, recorder = Model(), Recorder()
    fit = trainer(DropoutScheduler(0.7), recorder, Stop(), max_epochs=-1)
    fit.fit(model)
    assert fit.global_step == 6
    assert {rates["blocks.0.ff"] for rates in recorder.rates} == {0.7}
    with pytest.raises(ValueError, match=r"cannot tell how long this fit is .* Pass total_steps= or total_epochs="):
        trainer(DropoutScheduler(Linear(0.7, 0.6)), max_epochs=-1).fit(model)


def test_schedulers_of_one_group_are_logged_as_its_mean_and_range(tmp_path: Path) -> None:
    first, second = DropoutScheduler(0.2, sites="*.0.ff"), DropoutScheduler(lambda t: t, sites=["*.1.ff", "*.2.ff"])
    logger = CSVLogger(tmp_path)
    fit = trainer(first, second, logger=logger, log_every_n_steps=4)
    fit.fit(Model())
    assert logged_rates(logger) == {
        "dropout/blocks.ff": pytest.approx({3: (0.2 + 2 * 3 / 8) / 3, 7: (0.2 + 2 * 7 / 8) / 3}),
        "dropout/blocks.ff/min": pytest.approx({3: 0.2, 7: 0.2}),
        "dropout/blocks.ff/max": pytest.approx({3: 3 / 8, 7: 7 / 8}),
    }
    assert fit.callback_metrics["dropout/blocks.ff"].item() == pytest.approx((0.2 + 2 * 7 / 8) / 3)


class Stop(Callback):
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        trainer.should_stop = trainer.global_step >= 6


class Swap(Callback):
    """Changes the callbacks of the trainer after the third batch."""

    def __init__(self, *, remove: list[Callback], add: list[Callback]) -> None:
        self.remove, self.add = remove, add

    def on_train_batch_end(self, trainer: Any, pl_module: LightningModule, *args: Any) -> None:
        if trainer.global_step == 3:
            trainer.callbacks = [callback for callback in trainer.callbacks if callback not in self.remove] + self.add


@pytest.mark.parametrize("which", [0, 1])
def test_a_scheduler_that_is_removed_leaves_the_rates_of_others_logged(which: int, tmp_path: Path) -> None:
    schedulers = [DropoutScheduler(0.7, sites="ff"), DropoutScheduler(0.6, sites="attn")]
    logger = CSVLogger(tmp_path)
    trainer(*schedulers, Swap(remove=[schedulers[which]], add=[]), logger=logger, log_every_n_steps=1).fit(Model())
    removed, left = ("dropout/blocks.ff", "dropout/blocks.attn")[:: 1 - 2 * which]
    assert list(logged_rates(logger)[left]) == list(range(8))
    assert list(logged_rates(logger)[removed]) == list(range(3))
    schedulers[which].teardown(trainer(), Model(), "fit")


def test_a_scheduler_that_is_added_in_the_middle_of_a_fit_says_so() -> None:
    late = DropoutScheduler(0.7, sites="ff")
    with pytest.raises(
        RuntimeError, match=r"sites=\['ff'\].* was added to a trainer that trains already. Add it before"
    ):
        trainer(Swap(remove=[], add=[late])).fit(Model())


@pytest.mark.parametrize("globs", [("ff", "blocks.1.*"), ("*.1.ff", "*.1.ff")])
def test_two_schedulers_on_one_site_are_refused_before_the_first_step(globs: tuple[str, str]) -> None:
    model, recorder = Model(), Recorder()
    fit = trainer(*(DropoutScheduler(0.1, sites=glob) for glob in globs), recorder)
    with pytest.raises(ValueError, match=r"both drive site 'blocks.1.ff'. Give them globs that do not overlap"):
        fit.fit(model)
    assert recorder.rates == []
    trainer(DropoutScheduler(0.1, sites="ff")).fit(model)


def test_rates_come_back_after_an_exception() -> None:
    class Failing(Model):
        def on_train_batch_end(self, *args: Any) -> None:
            raise RuntimeError("user code")

    model = Failing()
    before = find_sites(model).rates()
    with pytest.raises(RuntimeError, match="user code"):
        trainer(DropoutScheduler(0.9)).fit(model)
    assert find_sites(model).rates() == before


class SaveAt(Callback):
    def __init__(self, path: Path, batch: int) -> None:
        self.path, self.batch = path, batch

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.fit_loop.total_batch_idx == self.batch:
            trainer.save_checkpoint(self.path)


@pytest.mark.filterwarnings("ignore:You.re resuming from a checkpoint that ended before the epoch ended")
@pytest.mark.parametrize("batch", [0, 4, 6, 9])
def test_a_resumed_run_has_the_rates_of_an_uninterrupted_one(tmp_path: Path, batch: int) -> None:
    whole, resumed = Recorder(), Recorder()
    options = {"accumulate_grad_batches": 3, "limit_train_batches": 7}
    path = tmp_path / "saved.ckpt"
    trainer(DropoutScheduler(Linear(0.0, 0.9)), whole, SaveAt(path, batch), **options).fit(Model())
    trainer(DropoutScheduler(Linear(0.0, 0.9)), resumed, **options).fit(Model(), ckpt_path=path, weights_only=True)
    assert resumed.rates == whole.rates[batch + 1 :]


def test_resuming_with_another_schedule_is_allowed_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = trainer(DropoutScheduler(Early(0.2, 0.5)), max_epochs=1, default_root_dir=tmp_path)
    first.fit(Model())
    first.save_checkpoint(tmp_path / "last.ckpt")
    recorder = Recorder()
    with caplog.at_level("INFO"):
        trainer(DropoutScheduler(0.6), recorder).fit(Model(), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert {rates["blocks.0.ff"] for rates in recorder.rates} == {0.6}
    assert "DropoutScheduler(Constant(rate=0.6), how='set') continues a run of Early(rate=0.2" in caplog.text


@pytest.mark.parametrize("every", [1, 7, 0])  # it acts in every step that is logged
def test_a_long_fit_has_the_same_rates_whether_logged_resumed_or_neither(every: int, tmp_path: Path) -> None:
    def rates(num_batches: int, ckpt_path: Path | None = None) -> list[float]:
        recorder, scheduler = Recorder(), DropoutScheduler(Linear(0, 1), total_steps=10 * 4096)
        fit = trainer(scheduler, recorder, max_epochs=num_batches // 5, limit_train_batches=5, log_every_n_steps=every)
        fit.fit(Model(), ckpt_path=ckpt_path, weights_only=True)
        fit.save_checkpoint(tmp_path / "last.ckpt")
        return [step["blocks.0.ff"] for step in recorder.rates]

    expected = [(step - step % 10) / (10 * 4096) for step in range(40)]
    assert rates(40) == expected
    assert rates(15) + rates(40, tmp_path / "last.ckpt") == expected


def test_resuming_with_the_same_function_is_nothing_to_say(caplog: pytest.LogCaptureFixture) -> None:
    scheduler, resumed = DropoutScheduler(BrokenLate()), DropoutScheduler(BrokenLate())
    with caplog.at_level("INFO"):
        scheduler.on_save_checkpoint(None, None, checkpoint := {})  # type: ignore[arg-type]
        resumed.on_load_checkpoint(None, None, checkpoint)  # type: ignore[arg-type]
    assert checkpoint
    assert "continues a run" not in caplog.text


def test_what_is_driven_is_said_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        trainer(DropoutScheduler(0.1), fast_dev_run=True).fit(Model())
    assert "drives 6 dropout sites: blocks.ff (3), blocks.attn (3)." in caplog.text


def test_logs_one_value_a_group_at_the_logging_steps(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    schedulers = DropoutScheduler(Linear(0, 0.8), sites="attn"), DropoutScheduler(Linear(1, 0), sites="ff", how="scale")
    fit = trainer(*schedulers, logger=logger, log_every_n_steps=2)
    fit.fit(Model())
    found = logged_rates(logger)
    assert found["dropout/blocks.attn"] == pytest.approx({1: 0.1, 3: 0.3, 5: 0.5, 7: 0.7})
    factors = {step: 1 - step / 8 for step in (1, 3, 5, 7)}
    for name, base in (("blocks.ff", 0.2), ("blocks.ff/min", 0.1), ("blocks.ff/max", 0.3)):
        assert found[f"dropout/{name}"] == pytest.approx({step: base * factor for step, factor in factors.items()})
    assert fit.callback_metrics["dropout/blocks.attn"].item() == pytest.approx(0.7)


def test_logs_once_in_an_accumulation_window(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    options = {"accumulate_grad_batches": 2, "limit_train_batches": 6, "log_every_n_steps": 2}
    trainer(DropoutScheduler(0.1), logger=logger, **options).fit(Model())
    assert list(logged_rates(logger)["dropout/blocks.ff"]) == [1, 3, 5]


def test_logs_nothing_where_the_trainer_does_not(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    trainer(DropoutScheduler(0.1), logger=logger, log_every_n_steps=0).fit(Model())
    assert not (Path(logger.log_dir) / "metrics.csv").exists()


def test_shows_the_value_in_the_progress_bar_where_there_is_one() -> None:
    for bar, shown in ((True, {"dropout": pytest.approx(0.7)}), (False, {})):
        fit = trainer(DropoutScheduler(Linear(0, 0.8)), enable_progress_bar=bar, log_every_n_steps=1)
        fit.fit(Model())
        assert fit.progress_bar_metrics == shown


def test_a_schedule_on_a_compiled_model_compiles_one_graph_a_mode() -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model = nn.Sequential(nn.Linear(32, 32), Dropout(0.1), nn.Linear(32, 2), Dropout(0.1))
    module = BoringModel()
    module.layer = torch.compile(model, fullgraph=True, backend="aot_eager")
    options = {"max_epochs": 3, "limit_train_batches": 6, "val_check_interval": 2}
    trainer(DropoutScheduler(Linear(0.0, 0.8)), **options).fit(module)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2


@pytest.mark.parametrize("compiled", [False, True])
def test_a_constant_schedule_changes_no_bit(compiled: bool) -> None:
    weights = []
    for callbacks in ([], [DropoutScheduler(Constant(1.0), how="scale")]):
        torch.manual_seed(1)
        model = Model(compiled=compiled)
        torch.manual_seed(2)
        trainer(*callbacks).fit(model)
        weights.append([parameter.detach() for parameter in model.parameters()])
    assert all(map(torch.equal, *weights))


def test_a_scheduler_can_be_pickled_and_reused() -> None:
    scheduler = pickle.loads(pickle.dumps(DropoutScheduler(Early(0.2, 0.5), sites="ff")))
    model = Model()
    before = find_sites(model).rates()
    for _ in range(2):
        trainer(scheduler, fast_dev_run=True).fit(model)
        assert find_sites(model).rates() == before


class BrokenLate:
    def __call__(self, progress: float) -> float:
        return float("nan") if progress > 0.5 else 0.1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DropoutScheduler(1.5), r"1\.5"),
        (lambda: DropoutScheduler(0.1, how="add"), r"DropoutScheduler\(how='add'\): how is 'set' or 'scale'"),
        (
            lambda: DropoutScheduler(0.1, total_steps=0),
            r"DropoutScheduler\(total_steps=0\): give a whole number from 1",
        ),
        (lambda: DropoutScheduler(0.1, total_steps="9"), r"DropoutScheduler\(total_steps='9'\): give a whole number"),
        (lambda: DropoutScheduler(0.1, total_steps=1.5), r"DropoutScheduler\(total_steps=1.5\): give a whole number"),
        (lambda: DropoutScheduler(True), r"Constant\(rate\): found True. Give a number in \[0, 1\]"),
        (lambda: DropoutScheduler("0.5"), r"Constant\(rate\): found '0.5'. Give a number in \[0, 1\]"),
        (lambda: DropoutScheduler(Linear), r"The schedule is the class Linear. Give an object of it: Linear\(...\)"),
        (lambda: DropoutScheduler(0.1, total_epochs=-1), r"DropoutScheduler\(total_epochs=-1\): give a whole number"),
        (lambda: DropoutScheduler(0.1, total_steps=1, total_epochs=1), "give one of them"),
        (lambda: DropoutScheduler(0.1, sites=[]), r"sites=\[\] is no glob"),
        (lambda: DropoutScheduler(0.1, sites=3), "sites=3 is no glob"),  # type: ignore[arg-type]
    ],
)
def test_bad_arguments_are_refused_at_once(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("scheduler", "model", "message"),
    [
        (DropoutScheduler(0.1, sites="blok*"), Model, r"DropoutScheduler\(sites=\['blok\*'\]\): 'blok\*' matches no"),
        (DropoutScheduler(0.1), BoringModel, r"no element-like dropout site .* in BoringModel \(found: no site at all"),
        (DropoutScheduler(BrokenLate()), Model, "nan at progress 0.51"),
        (DropoutScheduler(lambda t: 4.0, how="scale"), Model, r"Factor 4.0 gives site 'blocks.2.ff' the rate 1.2"),
        (DropoutScheduler(lambda t: 2.0), Model, "returned 2.0 at progress 0.0"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_before_the_first_step(
    scheduler: DropoutScheduler, model: type[LightningModule], message: str
) -> None:
    recorder = Recorder()
    with pytest.raises(ValueError, match=message):
        trainer(scheduler, recorder).fit(model())
    assert recorder.rates == []


def test_works_in_the_pytorch_lightning_trainer_too() -> None:
    import pytorch_lightning
    from pytorch_lightning.demos.boring_classes import BoringModel as OtherBoringModel

    class OtherModel(OtherBoringModel):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Sequential(nn.Linear(32, 2), Dropout(0.1))
            self.rates: list[float] = []

        def on_train_batch_end(self, *args: Any) -> None:
            self.rates.append(self.layer[1].rate)

    model = OtherModel()
    fit = pytorch_lightning.Trainer(
        max_epochs=1,
        limit_train_batches=4,
        limit_val_batches=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[DropoutScheduler(Linear(0.0, 0.8))],
    )
    fit.fit(model)
    assert model.rates == pytest.approx([0.0, 0.2, 0.4, 0.6])


@pytest.mark.filterwarnings("ignore:The lr_scheduler's state is not restored", "ignore:.*lr_find")
def test_the_tuner_leaves_rates_and_schedule_as_they_were(tmp_path: Path) -> None:
    class Tunable(Model):
        lr = 0.1

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=self.lr)

    model, recorder = Tunable(), Recorder()
    before = find_sites(model).rates()
    fit = trainer(DropoutScheduler(Linear(0.0, 0.8)), recorder, default_root_dir=tmp_path)
    Tuner(fit).lr_find(model, num_training=5, update_attr=False)
    assert find_sites(model).rates() == before
    recorder.rates.clear()
    fit.fit(model)
    assert [rates["blocks.0.ff"] for rates in recorder.rates] == pytest.approx([0.1 * i for i in range(8)])


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dropout = 0.3
        self.linear = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.linear(x), self.dropout, self.training)


class EmptyHead(Head):
    def __len__(self) -> int:
        return 0


def compiled(module: nn.Module) -> Any:
    return torch.compile(module, backend="aot_eager")


@pytest.mark.parametrize("make", [EmptyHead, lambda: compiled(Head()), lambda: compiled(EmptyHead())])
def test_a_module_that_is_not_true_is_released_like_any_other(make: Any) -> None:
    torch._dynamo.reset()
    model = BoringModel()
    model.layer = make()
    before = {name: type(module) for name, module in model.named_modules()}
    for _ in range(2):
        trainer(DropoutScheduler(Linear(0.0, 0.8)), ModeGuard("raise"), max_epochs=1).fit(model)
        assert find_sites(model).rates() == {"layer": 0.3}
        assert {name: type(module) for name, module in model.named_modules()} == before
