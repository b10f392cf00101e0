"""What ModeGuard finds, and what it leaves in peace: each in the smallest model that shows it."""

from __future__ import annotations

import copy
import random
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

import lightning_dropout as ld
from lightning_dropout import layers
from lightning_dropout.callbacks import DropoutScheduler, MCDropout, ModeGuard

TRAINING, VALIDATION = "in eval mode at the start of training", "Dropout is active in validation"


class Model(LightningModule):
    """A healthy one: 8 numbers in, 2 out, dropout in between."""

    callbacks: tuple[Callback, ...] = ()
    num_loaders = 1

    def __init__(self) -> None:
        super().__init__()
        self.net: Any = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.3), nn.Linear(8, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self(batch[0]).square().mean()

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return self(batch[0])

    test_step = predict_step = validation_step

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)

    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(torch.randn(12, 8)), batch_size=2)

    def val_dataloader(self) -> Any:
        return [self.train_dataloader() for _ in range(self.num_loaders)]

    test_dataloader = predict_dataloader = train_dataloader


@dataclass
class Fault:
    """A model, what is said about it, and the site or the source line that is named."""

    build: Callable[..., Model]
    says: str
    site: str = ""
    line: str = ""
    run: str = "fit"
    raises: type[BaseException] | None = None


FAULTS: dict[str, Fault] = {}
HEALTHY: dict[str, tuple[type[Model], str]] = {}


def fault(says: str, **kwargs: Any) -> Callable[[Any], Any]:
    def add(build: Any) -> Any:
        FAULTS[build.__name__] = Fault(build, says, **kwargs)
        return build

    return add


def healthy(run: str = "fit") -> Callable[[type[Model]], type[Model]]:
    def add(model: type[Model]) -> type[Model]:
        HEALTHY[model.__name__] = (model, run)
        return model

    return add


# Dropout that is off in training


@fault(TRAINING, site="net.bert.encoder.layer.output.dropout' (2)")
class PretrainedOfHuggingFace(Model):
    """from_pretrained() returns a model in eval mode, and fit() leaves it there."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        transformers = pytest.importorskip("transformers")
        config = transformers.BertConfig(
            vocab_size=16, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8
        )
        transformers.BertForSequenceClassification(config).save_pretrained(folder)
        self.net = transformers.BertForSequenceClassification.from_pretrained(folder)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.abs().long()).logits


@fault(TRAINING, site="net.1")
class EvalInConstructor(Model):
    def __init__(self) -> None:
        super().__init__()
        self.net.eval()


@fault(TRAINING, site="net.attention")
class AttentionInEval(Model):
    """The rate of torch's attention is no layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.ModuleDict({"attention": nn.MultiheadAttention(8, 2, dropout=0.1).eval()})

    def forward(self, x: Tensor) -> Tensor:
        return self.net["attention"](x, x, x)[0]


@fault(TRAINING, site="net.0")
class RecurrentInEval(Model):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.LSTM(8, 2, num_layers=2, dropout=0.1).eval())

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[0]


@fault(TRAINING, site="net.1")
class TrainKeepsBatchNormInEval(Model):
    """An override of train() for the sake of batch norm that keeps dropout in eval too."""

    def __init__(self) -> None:
        super().__init__()

        class Frozen(nn.Sequential):
            def train(self, mode: bool = True) -> Frozen:
                return super().train(False)

        self.net = Frozen(nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 2)).train()


@fault("run in training without dropping anything", site="net.1")
class EvalInTrainingStep(Model):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.net.eval()
        loss = super().training_step(batch, batch_idx)
        self.net.train()
        return loss


@fault("run in training without dropping anything", site="net.1")
class EvalInEpochHook(Model):
    def on_train_epoch_start(self) -> None:
        self.net.eval()


@fault("in eval mode after an epoch", site="net.1")
class EvalAfterSampling(Model):
    """Switches to eval mode for a sample and does not switch back."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        if batch_idx == 3:
            self.eval()
        return loss

    def val_dataloader(self) -> Any:
        return []


@fault("in eval mode after validation", site="backbone.1")
class UnfrozenInEval(Model):
    """A frozen backbone may be in eval mode; once it is trained, it may not."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.1)).requires_grad_(False).eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.backbone(x))

    def on_validation_epoch_end(self) -> None:
        self.backbone.requires_grad_(True)


@fault("5 modules are not in the mode after validation that they were in before it, train", site="net.1")
class StaysInEvalAfterValidation(Model):
    def on_validation_model_train(self) -> None:
        pass


@fault("not in the mode after an exception", site="net.1", raises=RuntimeError)
class ErrorInValidation(Model):
    """Lightning does not restore the modes when validation fails: the next fit would start in eval mode."""

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        raise RuntimeError


@fault("not in the mode after an exception", site="net.1", raises=SystemExit)
class InterruptInValidation(Model):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        raise KeyboardInterrupt


@fault("Dropout is off in training", line="F.alpha_dropout(x, 0.3)")
class AlphaDropoutByDefault(Model):
    """Unlike F.dropout, F.alpha_dropout has training=False by default."""

    def forward(self, x: Tensor) -> Tensor:
        return self.net(F.alpha_dropout(x, 0.3))


@fault("Dropout is off in training", line="F.dropout(x, 0.3, training=False)")
class LeftFromDebugging(Model):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(F.dropout(x, 0.3, training=False))


@fault("Dropout is off in training", line="F.dropout(x, self.rate, self.is_training)")
class FlagOfItsOwn(Model):
    """A flag that nobody sets."""

    rate, is_training = 0.3, False

    def forward(self, x: Tensor) -> Tensor:
        return self.net(F.dropout(x, self.rate, self.is_training))


@fault("never called in training", site="net.drop")
class ForgottenLayer(Model):
    """Built, configured, reported in the paper, and not called."""

    def __init__(self) -> None:
        super().__init__()

        class Block(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.linear, self.drop = nn.Linear(8, 2), nn.Dropout(0.3)

            def forward(self, x: Tensor) -> Tensor:
                return self.linear(x)

        self.net = Block()


@fault("run in training without dropping anything", site="net.1")
class CompiledInEval(Model):
    """Of compiled code it is known only that it drew no random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.compile(self.net, backend="eager")

    def on_train_epoch_start(self) -> None:
        self.net.eval()


# Dropout that is on in evaluation


@fault(VALIDATION, line="F.dropout(x, 0.3)")
class FunctionWithoutTraining(Model):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(F.dropout(x, 0.3))


@fault(VALIDATION, line="F.dropout(x, 0.3, self.mode)")
class FlagFromConstructor(Model):
    """The mode at construction, which is train."""

    def __init__(self) -> None:
        super().__init__()
        self.mode = self.training

    def forward(self, x: Tensor) -> Tensor:
        return self.net(F.dropout(x, 0.3, self.mode))


@fault(VALIDATION, line="F.dropout1d(x, 0.3)")
class ChannelFunction(Model):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(F.dropout1d(x, 0.3))


@fault(VALIDATION, line="torch.dropout(x, 0.3, train=True)")
class FunctionOfTorch(Model):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(torch.dropout(x, 0.3, train=True))


@fault(VALIDATION, line="F.scaled_dot_product_attention(x, x, x, dropout_p=0.3)")
class AttentionFunction(Model):
    """It takes a rate and no flag."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(1)
        return self.net(F.scaled_dot_product_attention(x, x, x, dropout_p=0.3).squeeze(1))


@fault(VALIDATION, line="nn.Dropout(0.3)(x)")
class LayerBuiltInForward(Model):
    """A new module is in train mode."""

    def forward(self, x: Tensor) -> Tensor:
        return self.net(nn.Dropout(0.3)(x))


@fault(VALIDATION, line="self.parts[0](x)")
class NetworkInList(Model):
    """eval() does not reach what a plain list holds."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = [nn.Dropout(0.3)]

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.parts[0](x))


@fault(VALIDATION, site="net.1", line="torch.rand_like(x) < self.drop_prob")
class DropPathWithoutMode(Model):
    """Written by hand, and the mode forgotten."""

    def __init__(self) -> None:
        super().__init__()

        class DropPath(nn.Module):
            drop_prob = 0.3

            def forward(self, x: Tensor) -> Tensor:
                return x.masked_fill(torch.rand_like(x) < self.drop_prob, 0.0)

        self.net[1] = DropPath()
        self.net[1].drop_prob = 0.3


@fault("in train mode in validation", site="net.1")
class ModuleIgnoresEval(Model):
    """Monte Carlo dropout that was left in."""

    def __init__(self) -> None:
        super().__init__()

        class AlwaysOn(nn.Dropout):
            def train(self, mode: bool = True) -> AlwaysOn:
                return super().train(True)

        self.net[1] = AlwaysOn(0.3)


@fault(VALIDATION, site="net.1")
class TrainInValidationHook(Model):
    def on_validation_epoch_start(self) -> None:
        self.net.train()


@fault(VALIDATION, site="net.1")
class TrainAfterSampling(Model):
    """Samples in validation and switches back to a mode that it was not in."""

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        self.net.eval()
        sample = self(batch[0])
        self.net.train()
        return self(batch[0]) - sample


@fault(VALIDATION, site="net.1")
class LockedDropoutInTrain(Model):
    """Our own layers draw their masks themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.net[1] = layers.LockedDropout(0.3, time_dim=0)

    def on_validation_epoch_start(self) -> None:
        self.net.train()


@fault("Dropout is active in test", line="F.dropout(batch[0], 0.3)", run="test")
class OnlyInTest(Model):
    def test_step(self, batch: Any, batch_idx: int) -> Any:  # type: ignore[override]
        return self(F.dropout(batch[0], 0.3))


@fault("Dropout is active in predict", line="F.dropout(batch[0], 0.3)", run="predict")
class OnlyInPredict(Model):
    def predict_step(self, batch: Any, batch_idx: int) -> Any:  # type: ignore[override]
        return self(F.dropout(batch[0], 0.3))


@fault(VALIDATION, line="F.dropout(batch[0], 0.3)")
class OnlyInSecondLoader(Model):
    num_loaders = 2

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return self(F.dropout(batch[0], 0.3)) if dataloader_idx == 1 else self(batch[0])


@fault(VALIDATION, line="F.dropout(batch[0], 0.3)")
class OnlyInLaterBatches(Model):
    """Found because batches are observed again every so many, 4 here."""

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return self(F.dropout(batch[0], 0.3)) if batch_idx > 3 else self(batch[0])


@fault(VALIDATION, line="F.dropout(x, 0.3)")
class CompiledLeak(Model):
    def __init__(self) -> None:
        super().__init__()
        self.compile(backend="eager")

    def forward(self, x: Tensor) -> Tensor:
        return self.net(F.dropout(x, 0.3))


# Healthy models, most of them random in evaluation or with something in eval mode in training


@healthy()
class Plain(Model):
    pass


@healthy()
class VariationalAutoencoder(Model):
    """Draws its latents in validation too."""

    def forward(self, x: Tensor) -> Tensor:
        mean, deviation = self.net(x).chunk(2, dim=-1)
        return mean + deviation * torch.randn_like(mean)


@healthy()
class CompiledVariationalAutoencoder(VariationalAutoencoder):
    def __init__(self) -> None:
        super().__init__()
        self.compile(backend="eager")


@healthy()
class DiffusionLoss(Model):
    """Draws noise and time steps in validation too."""

    def forward(self, x: Tensor) -> Tensor:
        time = torch.rand(len(x), 1)
        noise = torch.randn_like(x)
        return self.net(x * (1 - time) + noise * time) - noise[:, :2]


@healthy()
class SampledGeneration(Model):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return torch.multinomial(self(batch[0]).softmax(-1), 1)


@healthy()
class NoisyMixtureOfExperts(Model):
    """Noise on the router, an expert that gets no rows, and one that is not called."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(8, 2), nn.Dropout(0.1)) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        chosen = self.net(x + torch.randn_like(x)).argmax(-1)
        rows = [(chosen == expert).nonzero().flatten() for expert in range(3)]
        outputs = [self.experts[expert](x[each]) for expert, each in enumerate(rows)]
        return torch.cat(outputs)[torch.cat(rows).argsort()]


@healthy()
class FrozenBackbone(Model):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.1)).requires_grad_(False).eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.backbone(x))


@healthy()
class MeanTeacher(Model):
    def __init__(self) -> None:
        super().__init__()
        self.teacher = copy.deepcopy(self.net).requires_grad_(False).eval()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return F.mse_loss(self(batch[0]), self.teacher(batch[0]))


@healthy()
class SelfDistillation(Model):
    """Switches to eval mode for its targets, and back."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.net.eval()
        with torch.no_grad():
            target = self(batch[0])
        self.net.train()
        return F.mse_loss(self(batch[0]), target)


@healthy()
class RDrop(Model):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return F.mse_loss(self(batch[0]), self(batch[0]))


@healthy("predict")
class MonteCarloCallback(Model):
    callbacks = (MCDropout(4),)


@healthy()
class MonteCarloInValidation(Model):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return ld.mc_predict(self, batch, 4)


@healthy()
class Adversaries(Model):
    """Two networks that take turns, one frozen while the other learns."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.critic = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.3), nn.Linear(8, 1))

    def training_step(self, batch: Any, batch_idx: int) -> None:
        player = self.optimizers()[batch_idx % 2]
        self.toggle_optimizer(player)
        fake = self(batch[0]) if batch_idx % 2 else torch.ones(2, 2)
        self.manual_backward(self.critic(fake).mean())
        player.step()
        player.zero_grad()
        self.untoggle_optimizer(player)

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(each.parameters(), lr=0.01) for each in (self.critic, self.net)]


@healthy()
class LayersSkippedByPython(Model):
    """Draws from Python's random numbers, where no torch function is called."""

    def __init__(self) -> None:
        super().__init__()

        class Stack(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layerdrop, self.layers = 0.5, nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

            def forward(self, x: Tensor) -> Tensor:
                for layer in self.layers:
                    if not (self.training and random.random() < self.layerdrop):
                        x = layer(x)
                return x

        self.net.insert(0, Stack())


@healthy()
class GeneratorOfItsOwn(Model):
    """Moves no random state that anyone else knows of."""

    def __init__(self) -> None:
        super().__init__()

        class DropPath(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.drop_prob, self.generator = 0.3, torch.Generator()

            def forward(self, x: Tensor) -> Tensor:
                if not self.training:
                    return x
                return x * (torch.rand(len(x), 1, generator=self.generator) > self.drop_prob)

        self.net[1] = DropPath()


@healthy()
class ActivationCheckpointing(Model):
    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.net, x, use_reentrant=False)


@healthy()
class GumbelSoftmax(Model):
    def forward(self, x: Tensor) -> Tensor:
        return F.gumbel_softmax(self.net(x))


@healthy()
class RateThatStartsAtZero(Model):
    callbacks = (DropoutScheduler(ld.schedules.Linear(0.0, 0.5)),)


@healthy()
class RateZeroInEval(Model):
    def __init__(self) -> None:
        super().__init__()
        self.net[1] = nn.Dropout(0.0).eval()


@healthy()
class EveryLayerOfOurs(Model):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            layers.DropConnect(nn.Linear(8, 8), 0.1),
            layers.ConcreteDropout(nn.Linear(8, 8)),
            layers.Dropout(0.1),
            layers.GaussianDropout(0.1),
            layers.AlphaDropout(0.1),
            layers.DropPath(0.1),
            layers.LockedDropout(0.1, time_dim=0),
            nn.Linear(8, 2),
        )


@healthy()
class DecoderOfOurs(Model):
    def __init__(self) -> None:
        super().__init__()
        self.net = ld.Transformer(vocab_size=8, context_length=8, dim=8, num_layers=2, num_heads=2)
        ld.find_sites(self.net).set(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.abs().long().clamp(max=7))


@healthy()
class BertOfHuggingFace(Model):
    """Its fused attention takes the rate of a layer that it never calls."""

    def __init__(self) -> None:
        super().__init__()
        transformers = pytest.importorskip("transformers")
        config = transformers.BertConfig(
            vocab_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
        )
        self.net = transformers.BertForSequenceClassification(config).train()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.abs().long()).logits


def findings(model: Model, run: str, raises: type[BaseException] | None = None) -> list[str]:
    """What the guard warned of."""
    torch._dynamo.reset()
    guard = ModeGuard(every_n_batches=4)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[*model.callbacks, guard],
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if raises is not None:
            with pytest.raises(raises):
                trainer.fit(model)
        elif run == "fit":
            trainer.fit(model)
        else:
            getattr(trainer, run)(model)
    messages = [str(w.message).removeprefix("ModeGuard: ") for w in caught if "ModeGuard" in str(w.message)]
    assert messages == guard.findings
    return messages


def source_lines(message: str) -> Iterator[str]:
    """The source lines that a message names."""
    for file, number in re.findall(r"\(([^()]+\.py):(\d+)\)", message):
        yield Path(file).read_text().splitlines()[int(number) - 1]


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_and_named(name: str, tmp_path: Path) -> None:
    case = FAULTS[name]
    model = case.build(tmp_path) if case.build is PretrainedOfHuggingFace else case.build()
    (message,) = findings(model, case.run, case.raises)
    assert case.says in message
    assert f"'{case.site}" in message or not case.site
    assert any(case.line in line for line in source_lines(message)) or not case.line


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_model_is_left_in_peace(name: str) -> None:
    model, run = HEALTHY[name]
    assert findings(model(), run) == []


def test_the_table_is_long() -> None:
    assert len(FAULTS) >= 20
    assert len(HEALTHY) >= 12
    assert all(case.site or case.line for case in FAULTS.values())
