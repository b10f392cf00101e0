"""Run a model once and record every dropout operation."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from lightning_dropout.sites.calls import DropoutCall, dropout_call, is_draw
from lightning_dropout.sites.find import find_sites
from lightning_dropout.sites.flow import Drop, Flow
from lightning_dropout.sites.location import Location, locate, module_names
from lightning_dropout.sites.measure import dropped_by_call, dropped_by_draw
from lightning_dropout.sites.preserve import preserve
from lightning_dropout.sites.probe import LEARNED, Probe, Probes, probing
from lightning_dropout.sites.site import Site
from lightning_dropout.sites.sites import Sites

__all__ = ["Recording", "Run", "record"]

# Kinds that Python code may decide on with a random number of its own.
_DECIDED_IN_PYTHON = frozenset({"layer", "path"})
# Kinds that do not set to zero what they drop.
_NOT_ZEROED = frozenset({"gaussian", "token", *LEARNED})


@dataclass(eq=False, kw_only=True)
class Run(Drop):
    """One run of a dropout operation, or a draw of random numbers that may be for one.

    ``rate`` is that of the site as the user knows it, and ``probe`` what it was for this run; of an operation whose
    rate comes from no site, ``rate`` is what it ran with. ``dropped`` is the fraction of entries that it dropped.
    """

    call: str
    where: Location
    shape: tuple[int, ...] = ()
    is_draw: bool = False
    site: Site | None = None
    rate: float = 0.0
    probe: float | None = None
    dropped: float | None = None
    is_constant: bool = False


@dataclass
class Recording:
    """What happened in one forward, in its order; ``num_layers`` counts calls of layers with weights."""

    sites: Sites
    runs: list[Run] = field(default_factory=list)
    num_layers: int = 0


def record(model: nn.Module, args: Iterable[Any], kwargs: dict[str, Any], *, training: bool) -> Recording:
    """Run ``model`` once in train or eval mode, in eager, with a rate of its own for every site.

    Modes, buffers, random states and rates come back, also on exceptions.
    """
    recorder = _Recorder(model, find_sites(model))
    with preserve(model), recorder.hooked(), probing(recorder.recording.sites, recorder.use) as probes:
        model.train(training)
        recorder.probes = probes
        with torch.compiler.set_stance("force_eager"), recorder:
            output = model(*args, **kwargs)
    return recorder.end(output)


class _Recorder(TorchFunctionMode):
    """Sees every torch function that is called.

    A dropout is either a call in the table, or made by hand: random numbers are drawn, and in the same module a rate
    meets a tensor, a random number of Python's, or becomes a whole number.
    """

    def __init__(self, model: nn.Module, sites: Sites) -> None:
        super().__init__()
        self.recording = Recording(sites)
        self.probes = Probes(sites[:0], self.use)
        self._rates = {site: site.rate for site in sites}
        self._names = module_names(model)
        self._learned: dict[str | None, Site] = {
            self._names[site.module]: site for site in sites if site.kind in LEARNED
        }
        self._flow = Flow()
        # By module: the last draw, and the last rate that met something.
        self._last_draw: dict[str | None, Run] = {}
        self._last_probe: dict[str | None, Probe] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        call = dropout_call(func, args)
        if call is not None and call.active_rate(args, kwargs) > 0.0:
            return self._run(func, call, args, kwargs)
        output = func(*args, **kwargs)
        if is_draw(func):
            self._draw(f"torch.{func.__name__}", output)
        probe = next(filter(None, map(self.probes.find, (*args, *kwargs.values()))), None)
        if probe is not None and call is None:
            self._meet(probe, lambda: dropped_by_draw(func, is_keep=probe.is_keep, output=output))
        self._flow.follow(func, args, kwargs, output)
        return output

    def _run(self, func: Callable[..., Any], call: DropoutCall, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        run = Run(call=call.name, where=self._where(), dropped=dropped_by_call(func, call, args, kwargs))
        input = args[0] if args else kwargs["query" if call.drops == "weights" else "input"]
        run.shape = tuple(input.shape)
        rate = call.rate.read(args, kwargs)
        if (probe := self.probes.find(rate)) is not None:
            self._claim(run, probe)
        else:
            run.rate = float(rate)
            run.is_constant = not call.rate.is_given(args, kwargs) or run.where.has_constant(run.rate)
        output = func(*args, **kwargs)
        if call.drops == "input":
            self._flow.drop(run, input, output)
        else:
            run.position = "weights" if call.drops == "weights" else None
            run.num_layers_before = self._flow.num_layers
            self._flow.follow(func, args, kwargs, output)
        self.recording.runs.append(run)
        return output

    def _draw(self, call: str, output: Any = None) -> None:
        run = Run(call=call, where=self._where(), is_draw=True, num_layers_before=self._flow.num_layers)
        run.shape = tuple(output.shape) if isinstance(output, Tensor) else ()
        if (probe := self._last_probe.get(run.where.module)) is not None:
            self._claim(run, probe)
        elif (site := self._learned.get(run.where.module)) is not None:
            run.site, run.rate = site, self._rates[site]
        self._last_draw[run.where.module] = run
        self.recording.runs.append(run)

    def use(self, probe: Probe, compared: bool) -> None:
        """Take note that Python code did something with a rate that no function mode sees."""
        last = self._last_draw.get(self._where().module)
        if compared and probe.site.kind in _DECIDED_IN_PYTHON and (last is None or last.site is not None):
            self._draw("random number")
        self._meet(probe, lambda: None)

    def _meet(self, probe: Probe, dropped: Callable[[], float | None]) -> None:
        module = self._where().module
        run = self._last_draw.get(module)
        if run is not None and (run.site is None or (run.site is probe.site and run.dropped is None)):
            self._claim(run, probe)
            run.dropped = dropped()
            if run.dropped is not None:  # the rate met the draw itself, so other draws there are not for it
                self._last_probe.pop(module, None)
        elif run is None or run.site is not probe.site:  # else it scales what was kept
            self._last_probe[module] = probe

    def _claim(self, run: Run, probe: Probe) -> None:
        run.site, run.rate = probe.site, self._rates[probe.site]
        run.probe = float(self.probes.by_site[probe.site])

    def _where(self) -> Location:
        return locate(self._names, sys._getframe(1))

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """Compare, inside a ``with`` block, input and output of the layers that draw a mask themselves."""
        layers = [site.module for site in self.recording.sites if not any(True for _ in site.module.parameters())]
        handles = [layer.register_forward_hook(self._compare, with_kwargs=True) for layer in layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _compare(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        run = self._last_draw.get(self._names.get(layer))  # a copy of the layer has no name
        before, after = (next(filter(torch.is_tensor, tree_leaves(tree)), None) for tree in ((args, kwargs), output))
        if run is None or run.site is None or before is None or after is None:
            return
        run.shape = tuple(before.shape)
        if run.dropped is None and run.site.kind not in _NOT_ZEROED and before.shape == after.shape:
            run.dropped = float(((after == 0.0) & (before != 0.0)).sum() / (before != 0.0).sum().clamp(min=1))

    def end(self, output: Any) -> Recording:
        """The recording, now that the model has given its ``output``."""
        for leaf in tree_leaves(output):
            drop = self._flow.of(leaf).drop
            if drop is not None and drop.after == "linear":
                drop.on_logits = True
        self.recording.num_layers = self._flow.num_layers
        return self.recording
