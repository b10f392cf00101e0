from __future__ import annotations

import random
from collections import defaultdict, deque
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning_dropout_callbacks.scratch import Scratch
from torch import nn
from torchmetrics import MeanMetric, MetricCollection, MinMetric


class Meter:
    def __init__(self) -> None:
        self.total, self.count = torch.zeros(()), 0

    def update(self, value: float) -> None:
        self.total += value
        self.count += 1


class Module(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        self.mean = MeanMetric()
        self.collection = MetricCollection({"mean": MeanMetric(), "min": MinMetric()})
        self.unregistered = {"mean": MeanMetric()}
        self.outputs: list[Any] = []
        self.by_loader: dict[str, Any] = {"a": [[], ()], "b": deque(maxlen=2)}
        self.counts: defaultdict[str, int] = defaultdict(int)
        self.meter = Meter()
        self.sum = torch.zeros(2)
        self.best = 0.0
        self.alias = self.outputs
        self.net[0].register_forward_hook(lambda module, args, output: self.outputs.append(output.detach()))
        self.register_buffer("row", torch.zeros(1).expand(3))

    def run(self) -> None:
        self.net(torch.randn(4, 2))
        for metric in (self.mean, self.collection, self.unregistered["mean"]):
            metric.update(1.0)
        self.by_loader["a"][0].append(1)
        self.by_loader["b"].append(1)
        self.counts["steps"] += 1
        self.meter.update(2.0)
        self.sum += 1.0
        self.best = 3.0
        self.net[1].extra = "new"
        self.late = nn.Linear(1, 1)

    def state(self) -> str:
        metrics = [self.mean, *self.collection.values(), self.unregistered["mean"]]
        kept = [
            self.outputs,
            self.by_loader,
            self.counts,
            vars(self.meter),
            self.sum,
            self.best,
            self.alias is self.outputs,
        ]
        tensors = {name: value.tolist() for name, value in self.state_dict().items()}
        modules = [type(module).__name__ for module in self.modules()]
        return repr((kept, tensors, modules, [metric.metric_state for metric in metrics], vars(self.net[1]).keys()))


def test_what_runs_inside_leaves_no_trace_and_is_kept_for_the_next_time() -> None:
    module = Module()
    module.run()
    del module.late
    before = module.state()
    scratch = Scratch([module])
    with scratch.entered():
        assert module.state() == before
        with torch.no_grad():
            module.run()
        inside = module.state()
        assert inside != before
    assert module.state() == before
    assert not hasattr(module, "late")
    with torch.no_grad():
        module.run()
    outside = module.state()
    with scratch.entered():
        assert module.state() == inside
        assert len(module.outputs) == 2
        assert module.collection.compute()["min"] == 1.0
    assert module.state() == outside


def test_state_is_put_back_after_an_exception() -> None:
    module = Module()
    before = module.state()
    with pytest.raises(KeyboardInterrupt), Scratch([module]).entered():
        module.run()
        raise KeyboardInterrupt
    assert module.state() == before


def test_parameters_and_foreign_objects_are_shared() -> None:
    module = Module()
    module.resource = SimpleNamespace(owner=object(), uses=0)
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0, momentum=0.9)
    module.optimizer = optimizer
    with Scratch([module]).entered():
        module.resource.uses += 1
        with torch.no_grad():
            module.net[0].bias.fill_(7.0)
        assert module.optimizer is optimizer
    assert module.resource.uses == 1
    assert module.net[0].bias.tolist() == [7.0, 7.0]


def test_schedulers_and_parameter_groups_can_be_held_too() -> None:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    parts = [torch.optim.lr_scheduler.StepLR(optimizer, 1), torch.optim.lr_scheduler.StepLR(optimizer, 1)]
    scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, parts, milestones=[5])
    optimizer.step()
    before = scheduler.state_dict()
    with Scratch([scheduler, *optimizer.param_groups]).entered():
        scheduler.step()
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)
    assert optimizer.param_groups[0]["lr"] == 1.0
    assert scheduler.state_dict() == before


def test_tensors_that_share_memory_stay_so() -> None:
    module = nn.Module()
    module.whole = torch.zeros(3)
    module.register_buffer("part", module.whole[1:])
    scratch = Scratch([module])
    with scratch.entered():
        module.part += 1.0
    module.whole += 5.0
    with scratch.entered():
        assert module.whole.tolist() == [0.0, 1.0, 1.0]
    assert module.whole.tolist() == [5.0, 5.0, 5.0]
    assert module.part.data_ptr() == module.whole[1:].data_ptr()


def test_random_generators_go_on_where_they_were() -> None:
    module = nn.Module()
    generators = [
        torch.Generator().manual_seed(1),
        random.Random(1),
        np.random.default_rng(1),
        np.random.RandomState(1),
    ]
    module.torch, module.python, module.new, module.old = generators

    def draw() -> list[float]:
        return [float(torch.rand((), generator=module.torch)), *(each.random() for each in generators[1:])]

    def draw_inside() -> list[float]:
        return [
            float(torch.rand((), generator=module.torch)),
            module.python.random(),
            module.new.random(),
            module.old.rand(),
        ]

    with Scratch([module]).entered():
        inside = draw_inside()
    assert draw() == inside
    assert draw_inside() != inside
