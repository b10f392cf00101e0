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

from lightning_dropout.callbacks import DropoutModeError, ModeGuard


class Model(BoringModel):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(32, 8), nn.Dropout(0.5), nn.Linear(8, 2))


def fit(model: LightningModule, *callbacks: Callback, **kwargs: Any) -> Trainer:
    defaults = {"max_epochs": 2, "limit_train_batches": 4, "limit_val_batches": 3, "num_sanity_val_steps": 0}
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **{**defaults, **kwargs},
    )
    trainer.fit(model)
    return trainer


def warned(model: LightningModule, guard: ModeGuard, **kwargs: Any) -> list[str]:
    """What the guard warned about, once each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(model, guard, **kwargs)
    messages = [str(w.message).removeprefix("ModeGuard: ") for w in caught if "ModeGuard" in str(w.message)]
    assert messages == guard.findings
    return messages


def test_a_healthy_model_is_left_in_peace(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert warned(Model(), ModeGuard()) == []
    assert "ModeGuard checked modes 7 times, and dropout in 6 batches, on 1 rank: nothing found." in caplog.text


def test_a_pretrained_model_in_eval_mode_is_found_by_name() -> None:
    model = Model()
    model.layer.eval()
    (message,) = warned(model, ModeGuard())
    assert message.startswith("1 dropout site with a rate above 0 is in eval mode at the start of training")
    assert "'layer.1'" in message
    assert ".train()" in message


def test_fix_switches_the_sites_on_and_nothing_else() -> None:
    model = Model()
    model.layer.eval()
    warned(model, ModeGuard("fix"))
    assert [module.training for module in model.layer] == [False, True, False]


def test_raise_stops_before_the_first_step() -> None:
    model = Model()
    model.layer.eval()
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.warns(UserWarning, match="eval mode"), pytest.raises(DropoutModeError, match="'layer.1'"):
        fit(model, ModeGuard("raise"))
    assert all(map(torch.equal, before, model.parameters()))


def test_a_frozen_part_may_be_in_eval_mode() -> None:
    class Frozen(Model):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Sequential(nn.Linear(32, 32), nn.Dropout(0.1)).requires_grad_(False).eval()

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.backbone(x))

    assert warned(Frozen(), ModeGuard()) == []


class Functional(Model):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(F.dropout(x, 0.3))


class Attention(Model):
    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(1)
        return self.layer(F.scaled_dot_product_attention(x, x, x, dropout_p=0.3).squeeze(1))


class Inline(Model):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(nn.Dropout(0.3)(x))


@pytest.mark.parametrize(
    ("model", "call", "line"),
    [
        (Functional, "F.dropout", "return self.layer(F.dropout(x, 0.3))"),
        (Attention, "F.scaled_dot_product_attention", "return self.layer(F.scaled_dot_product_attention"),
        (Inline, "F.dropout", "return self.layer(nn.Dropout(0.3)(x))"),
    ],
)
@pytest.mark.parametrize("num_batches", [1, 3])
def test_dropout_that_ignores_the_mode_is_named_with_its_line(
    model: type[Model], call: str, line: str, num_batches: int
) -> None:
    (message,) = warned(model(), ModeGuard(), limit_val_batches=num_batches)
    assert f"Dropout is active in validation: {call} with rate 0.3" in message
    file, number = message.split("(")[1].split(")")[0].rsplit(":", 1)
    assert Path(file) == Path(__file__)
    assert Path(__file__).read_text().splitlines()[int(number) - 1].strip().startswith(line)


def test_a_compiled_model_is_seen_through_without_an_extra_graph() -> None:
    graphs = []
    for callbacks in ([], [ModeGuard()]):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        model = Functional()
        model.compile(backend="eager")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit(model, *callbacks)
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert any("F.dropout with rate 0.3" in str(warning.message) for warning in caught)
    assert graphs[0] == graphs[1] > 0


def test_other_randomness_in_evaluation_is_no_finding() -> None:
    class Noisy(Model):
        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x + torch.randn_like(x))

    assert warned(Noisy(), ModeGuard()) == []


def test_each_batch_runs_once() -> None:
    class Counting(Functional):
        calls: list[int] = []  # noqa: RUF012

        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            self.calls.append(batch_idx)
            return super().validation_step(batch, batch_idx)

    warned(Counting(), ModeGuard(), max_epochs=1)
    assert Counting.calls == [0, 1, 2]


class TrainsInValidation(Model):
    def on_validation_epoch_start(self) -> None:
        self.layer.train()


class StaysInEval(Model):
    def on_validation_model_train(self) -> None:
        pass


def test_a_site_left_in_train_mode_is_named() -> None:
    class AlwaysOn(nn.Dropout):
        def train(self, mode: bool = True) -> AlwaysOn:
            return super().train(True)

    model = Model()
    model.layer[1] = AlwaysOn(0.5)
    (message,) = warned(model, ModeGuard())
    assert message.startswith("1 dropout site with a rate above 0 is in train mode in validation: 'layer.1'")


def test_train_called_in_a_validation_hook_is_found_by_what_fires() -> None:
    (message,) = warned(TrainsInValidation(), ModeGuard())
    assert "Dropout is active in validation: F.dropout with rate 0.5 in 'layer.1'" in message


def test_modes_that_do_not_come_back_after_validation_are_found_and_fixed() -> None:
    (message,) = warned(StaysInEval(), ModeGuard())
    assert message.startswith("5 modules are not in the mode after validation that they were in before it, train:")
    model = StaysInEval()
    warned(model, ModeGuard("fix"), val_check_interval=2)
    assert model.layer.training


def test_an_exception_in_validation_leaves_no_trap_behind() -> None:
    class Failing(Model):
        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            raise RuntimeError("user code")

    model, guard = Failing(), ModeGuard("fix")
    with pytest.warns(UserWarning, match="after an exception"), pytest.raises(RuntimeError, match="user code"):
        fit(model, guard)
    assert model.layer[1].training
    assert torch.overrides._len_torch_function_stack() == 0


def test_test_and_predict_runs_are_watched_too() -> None:
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        limit_test_batches=2,
        limit_predict_batches=2,
        callbacks=[guard := ModeGuard()],
    )
    model = Functional()
    with pytest.warns(UserWarning, match="Dropout is active in test: F.dropout"):
        trainer.test(model, verbose=False)
    with pytest.warns(UserWarning, match="Dropout is active in predict: F.dropout"):
        trainer.predict(model)
    assert len(guard.findings) == 2


def test_weights_and_randomness_are_what_they_are_without_it() -> None:
    results = []
    for callbacks in ([], [ModeGuard()]):
        torch.manual_seed(0)
        model = Model()
        fit(model, *callbacks)
        results.append([*(parameter.detach() for parameter in model.parameters()), torch.rand(3)])
    assert all(map(torch.equal, *results))


def test_an_unknown_reaction_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ModeGuard\(on_violation='ignore'\): on_violation is 'warn', 'raise' or"):
        ModeGuard("ignore")  # type: ignore[arg-type]
