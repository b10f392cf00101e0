"""How ModeGuard works; what it finds stands in test_mode_guard_faults.py."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from torch import Tensor, nn

from lightning_dropout.callbacks import DropoutModeError, DropoutScheduler, ModeGuard
from lightning_dropout.schedules import Late


class Model(BoringModel):
    layer: Any

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(32, 8), nn.Dropout(0.5), nn.Linear(8, 2))


class Functional(Model):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(F.dropout(x, 0.3))
        return y


class StaysInEval(Model):
    def on_validation_model_train(self) -> None:
        pass


class FailsInValidation(Model):
    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        raise RuntimeError("user code")


def trainer(*callbacks: Callback, **kwargs: Any) -> Trainer:
    defaults = {"max_epochs": 2, "limit_train_batches": 4, "limit_val_batches": 3, "num_sanity_val_steps": 0}
    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **{**defaults, **kwargs},
    )


def fit(model: LightningModule, *callbacks: Callback, **kwargs: Any) -> None:
    trainer(*callbacks, **kwargs).fit(model)


def warned(model: LightningModule, guard: ModeGuard, *callbacks: Callback, **kwargs: Any) -> list[str]:
    """What the guard warned about, once each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(model, guard, *callbacks, **kwargs)
    messages = [str(w.message).removeprefix("ModeGuard: ") for w in caught if "ModeGuard" in str(w.message)]
    assert messages == guard.findings
    return messages


def is_untouched(model: Model) -> bool:
    """Whether no hook, no method and no function mode of the guard is left."""
    hooks = [hook for module in model.modules() for hook in (*module._forward_hooks, *module._forward_pre_hooks)]
    modes: int = torch.overrides._len_torch_function_stack()  # type: ignore[attr-defined]
    return not hooks and modes == 0 and "training_step" not in vars(model)


def test_a_fit_ends_with_what_was_checked(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert warned(Model(), ModeGuard()) == []
    assert "ModeGuard checked modes 7 times, and dropout in 6 batches, on 1 rank: nothing found." in caplog.text


def test_a_fit_ends_with_what_was_found(caplog: pytest.LogCaptureFixture) -> None:
    model = Model()
    model.layer.eval()
    with caplog.at_level("INFO"):
        warned(model, ModeGuard())
    assert (
        "on 1 rank: 1 found: 1 dropout site with a rate above 0 is in eval mode at the start of training and would "
        "drop nothing: 'layer.1'."
    ) in caplog.text


def test_sites_of_repeated_blocks_are_named_together() -> None:
    model = Model()
    model.layer = nn.Sequential(
        *(nn.Sequential(nn.Linear(32, 32), nn.Dropout(0.5)) for _ in range(9)), nn.Linear(32, 2)
    )
    model.layer.eval()
    (message,) = warned(model, ModeGuard())
    assert message == (
        "9 dropout sites with a rate above 0 are in eval mode at the start of training and would drop nothing: 'layer' "
        "(9). Look for .eval() calls, and call .train() on what Hugging Face's from_pretrained() returns in eval mode."
    )


def test_fix_switches_the_sites_on_and_nothing_else() -> None:
    model = Model()
    model.layer.eval()
    warned(model, ModeGuard("fix"))
    assert [module.training for module in model.layer] == [False, True, False]


def test_fix_repairs_what_is_broken_again_in_every_epoch() -> None:
    class EvalInHook(Model):
        def on_train_epoch_start(self) -> None:
            self.layer.eval()

    model = EvalInHook()
    assert len(warned(model, ModeGuard("fix"), max_epochs=3)) == 1
    assert model.layer[1].training


def test_raise_stops_before_the_first_step() -> None:
    model = Model()
    model.layer.eval()
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.warns(UserWarning, match="eval mode"), pytest.raises(DropoutModeError, match="'layer.1'"):
        fit(model, ModeGuard("raise"))
    assert all(map(torch.equal, before, model.parameters()))


def test_raise_in_validation_leaves_the_model_in_train_mode() -> None:
    model = Functional()
    with pytest.raises(DropoutModeError, match="Dropout is active in validation"):
        fit(model, ModeGuard("raise"))
    assert all(module.training for module in model.modules())
    assert is_untouched(model)


@pytest.mark.parametrize("num_batches", [1, 3])
def test_dropout_that_ignores_the_mode_is_named_with_its_line(num_batches: int) -> None:
    (message,) = warned(Functional(), ModeGuard(), limit_val_batches=num_batches)
    assert "Dropout is active in validation: F.dropout with rate 0.3" in message
    file, number = message.split("(")[1].split(")")[0].rsplit(":", 1)
    assert Path(file) == Path(__file__)
    assert "F.dropout(x, 0.3)" in Path(__file__).read_text().splitlines()[int(number) - 1]


@pytest.mark.parametrize("model_class", [Model, Functional])
def test_a_compiled_model_gets_no_extra_graph_and_the_same_weights(model_class: type[Model]) -> None:
    graphs, weights = [], []
    for callbacks in ([], [ModeGuard()]):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        torch.manual_seed(0)
        model = model_class()
        model.compile(backend="aot_eager")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit(model, *callbacks)
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
        weights.append([parameter.detach() for parameter in model.parameters()])
    assert graphs[0] == graphs[1] > 0
    assert model_class is Functional or all(map(torch.equal, *weights))
    found = any("F.dropout with rate 0.3" in str(warning.message) for warning in caught)
    assert found == (model_class is Functional)


def test_each_batch_runs_once() -> None:
    calls: list[tuple[str, int]] = []

    class Counting(Functional):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            calls.append(("train", batch_idx))
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            calls.append(("val", batch_idx))
            return super().validation_step(batch, batch_idx)

    warned(Counting(), ModeGuard(), max_epochs=1)
    assert calls == [*(("train", i) for i in range(4)), *(("val", i) for i in range(3))]


@pytest.mark.parametrize("guard_first", [True, False])
def test_a_site_that_a_schedule_turns_on_later_is_looked_at_then(guard_first: bool) -> None:
    class BrokenDropout(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.p = 0.0

        def forward(self, x: Tensor) -> Tensor:
            return x if self.p >= 0.0 else -x

    model = Model()
    model.layer[1] = BrokenDropout()
    callbacks = [ModeGuard("raise"), DropoutScheduler(Late(0.5, after=0.5), sites="layer.1")]
    watched = trainer(*callbacks if guard_first else reversed(callbacks), max_epochs=4)
    with pytest.raises(DropoutModeError, match=r"run in training without dropping anything: 'layer\.1'"):
        watched.fit(model)
    assert watched.current_epoch == (3 if guard_first else 2)


def test_modes_that_do_not_come_back_after_validation_are_found_and_fixed() -> None:
    (message,) = warned(StaysInEval(), ModeGuard())
    assert message.startswith(
        "5 modules are not in the mode after validation that they were in before it, train: StaysInEval, Sequential, "
        "Linear, Dropout, with the dropout 'layer.1'."
    )
    model = StaysInEval()
    warned(model, ModeGuard("fix"), val_check_interval=2)
    assert model.layer.training


@pytest.mark.parametrize("num_sanity_val_steps", [0, 2])
def test_an_exception_in_validation_leaves_no_trap_behind(num_sanity_val_steps: int) -> None:
    model = FailsInValidation()
    with pytest.warns(UserWarning, match="after an exception"), pytest.raises(RuntimeError, match="user code"):
        fit(model, ModeGuard("fix"), num_sanity_val_steps=num_sanity_val_steps)
    assert all(module.training for module in model.modules())
    assert is_untouched(model)


def test_an_exception_in_an_evaluation_of_its_own_leaves_no_trap_behind() -> None:
    model = FailsInValidation()
    with pytest.warns(UserWarning, match="after an exception"), pytest.raises(RuntimeError, match="user code"):
        trainer(ModeGuard("fix")).validate(model)
    assert all(module.training for module in model.modules())


def test_an_exception_in_training_leaves_nothing_of_the_guard_behind() -> None:
    class Failing(Model):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            super().training_step(batch, batch_idx)
            raise RuntimeError("user code")

    model, guard = Failing(), ModeGuard("raise")
    with pytest.raises(RuntimeError, match="user code"):
        fit(model, guard)
    assert guard.findings == []
    assert is_untouched(model)


def test_an_epoch_that_is_skipped_leaves_nothing_of_the_guard_behind() -> None:
    class Skipping(Model):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
            return -1 if self.current_epoch == 0 else None

    model = Skipping()
    assert warned(model, ModeGuard(), limit_val_batches=0) == []
    assert is_untouched(model)


def test_test_and_predict_runs_are_watched_too() -> None:
    watched = trainer(guard := ModeGuard(), limit_test_batches=2, limit_predict_batches=2)
    model = Functional()
    with pytest.warns(UserWarning, match="Dropout is active in test: F.dropout"):
        watched.test(model, verbose=False)
    with pytest.warns(UserWarning, match="Dropout is active in predict: F.dropout"):
        watched.predict(model)
    assert len(guard.findings) == 2


def test_weights_and_randomness_are_what_they_are_without_it() -> None:
    results = []
    for callbacks in ([], [ModeGuard()]):
        torch.manual_seed(0)
        model = Model()
        fit(model, *callbacks)
        assert is_untouched(model)
        results.append([*(parameter.detach() for parameter in model.parameters()), torch.rand(3)])
    assert all(map(torch.equal, *results))


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"ModeGuard\(on_violation='ignore'\): on_violation is 'warn', 'raise' or"):
        ModeGuard("ignore")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"ModeGuard\(every_n_batches=0\): give 1 or more"):
        ModeGuard(every_n_batches=0)
