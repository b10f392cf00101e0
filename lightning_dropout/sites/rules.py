"""The rules of an audit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

from torch import nn

from lightning_dropout.sites.code import names_read
from lightning_dropout.sites.find import clean_name, unwrap
from lightning_dropout.sites.findings import Finding
from lightning_dropout.sites.kinds import is_rate_name
from lightning_dropout.sites.recording import Recording, Run
from lightning_dropout.sites.trained_parts import TrainedParts

__all__ = ["RULES", "Evidence", "Rule"]


@dataclass(frozen=True)
class Evidence:
    """A model as it was handed over, and what it did in one forward in train mode and one in eval mode."""

    model: nn.Module
    training: Recording
    evaluation: Recording

    def runs(self, *kinds: str | None) -> Iterator[Run]:
        """The dropout operations of the forward in train mode that have a rate; of some kinds only, if given."""
        for run in self.training.runs:
            if run.rate > 0.0 and (not kinds or (run.site and run.site.kind) in kinds):
                yield run


#: Site and what was found there.
Breach: TypeAlias = tuple[str, str]


@dataclass(frozen=True)
class Rule:
    """A rule with its code, its reason, and how to find what breaks it."""

    code: str
    title: str
    why: str
    advice: str
    breaches: Callable[[Evidence], Iterator[Breach]]

    def findings(self, evidence: Evidence) -> Iterator[Finding]:
        """What breaks the rule, each site once."""
        for site, found in dict(self.breaches(evidence)).items():
            yield Finding(self.code, self.title, site, found, self.why, self.advice)


# Of rates that are not for single values: skipped branches and layers, and whatever follows them, are another matter.
_VALUES = (None, "element", "channel", "alpha", "attention", "context", "embedding", "locked")


def _after_batch_norm(evidence: Evidence) -> Iterator[Breach]:
    for run in evidence.runs(*_VALUES):
        if run.after == "batch_norm":
            yield _name(run), f"{_what(run)} gets the output of a batch norm, with at most an activation in between."


def _on_scores(evidence: Evidence) -> Iterator[Breach]:
    for run in evidence.runs():
        if run.position == "scores":
            yield _name(run), f"{_what(run)} drops attention scores, before their softmax."


def _in_a_row(evidence: Evidence) -> Iterator[Breach]:
    for run in evidence.runs(*_VALUES):
        before = run.after_drop
        if isinstance(before, Run) and before.rate > 0.0 and (before.site is None or before.site.kind in _VALUES):
            rate = 1.0 - (1.0 - run.rate) * (1.0 - before.rate)
            yield _name(run), f"{_what(run)} follows directly on {_what(before)}: together they drop {rate:.3g}."


def _on_logits(evidence: Evidence) -> Iterator[Breach]:
    for run in evidence.runs(*_VALUES):
        if run.on_logits:
            yield _name(run), f"{_what(run)} is the last thing that happens to the output of the last layer."


def _element_on_maps(evidence: Evidence) -> Iterator[Breach]:
    for run in evidence.runs(None, "element"):
        is_element = run.call.removesuffix("_").endswith((".dropout", "native_dropout"))
        if is_element and run.on_map and prod(run.shape[2:]) > 1:
            shape = "x".join(map(str, run.shape))
            yield _name(run), f"{_what(run)} drops single elements of convolution maps, {shape}."


def _high_rate(evidence: Evidence) -> Iterator[Breach]:
    for run in evidence.runs():
        num_layers_after = evidence.training.num_layers - run.num_layers_before
        if run.rate > 0.5 and num_layers_after >= 2 and (run.site is None or run.site.kind != "token"):
            yield _name(run), f"{_what(run)} has rate {run.rate:g} with {num_layers_after} layers still to come."


def _dropout2d_shape(evidence: Evidence) -> Iterator[Breach]:
    for run in evidence.runs():
        if run.call.endswith("dropout2d") and len(run.shape) in (2, 3):
            yield _name(run), f"{_what(run)} got an input of shape {run.shape}."


def _active_in_eval(evidence: Evidence) -> Iterator[Breach]:
    for run in evidence.evaluation.runs:
        if run.rate > 0.0 and (run.site is not None or not run.is_draw):
            yield _name(run), f"{_what(run)} dropped with the model in eval mode."


def _in_eval_mode(evidence: Evidence) -> Iterator[Breach]:
    silent = [site for site in evidence.training.sites if site.rate > 0.0 and not site.module.training]
    parts = TrainedParts(evidence.model)
    silent = [site for site in silent if site.module in parts]
    if silent and not evidence.model.training:
        yield "", f"The model is in eval mode, and its {len(silent)} dropout sites with it."
        return
    for site in silent:
        yield site.name, f"{site.name!r} is in eval mode, though the model is in train mode."


def _elided(evidence: Evidence) -> Iterator[Breach]:
    for path, module in unwrap(evidence.model).named_modules():
        path = clean_name(path)
        if isinstance(module, nn.Identity) and any(map(is_rate_name, path.split(".")[-2:])):
            yield path, f"{path!r} is an Identity."
        cls: type = type(module)
        for name, value in {**module._modules, **vars(module)}.items():
            if value is None and is_rate_name(name) and name in names_read(cls):
                path_of_none = f"{path}.{name}".lstrip(".")
                yield path_of_none, f"{path_of_none!r} is None."


RULES = (
    Rule(
        "LD001",
        "dropout right after batch norm",
        "In eval the variance of the inputs shifts against what later batch norms saw in training (Li et al. 2019).",
        "Move it behind the last batch norm, or drop before the next linear layer.",
        _after_batch_norm,
    ),
    Rule(
        "LD002",
        "dropout on attention scores",
        "A dropped score is 0, not minus infinity: its key keeps weight, and the kept ones are sharpened.",
        "Drop the weights, after the softmax, or the context vectors.",
        _on_scores,
    ),
    Rule(
        "LD003",
        "two dropouts in a row",
        "They act as one with a higher rate, which no schedule of either reaches alone.",
        "Keep one of them.",
        _in_a_row,
    ),
    Rule(
        "LD004",
        "dropout on the logits",
        "It erases whole classes at random, and scales the others, so the loss is noise.",
        "Move it in front of the last layer.",
        _on_logits,
    ),
    Rule(
        "LD005",
        "element dropout on convolution maps",
        "Neighbours in a map carry the same information, so little is lost (Tompson et al. 2015).",
        "Use channel dropout (Dropout2d) or DropBlock2d.",
        _element_on_maps,
    ),
    Rule(
        "LD006",
        "rate above 0.5 in the trunk",
        "Most of the signal is lost there at every layer; such rates are for the layer before the last.",
        "Lower it to .5 or less.",
        _high_rate,
    ),
    Rule(
        "LD007",
        "Dropout2d on a 2-D or 3-D input",
        "It needs (batch, channels, height, width); torch reads 3-D as one-dimensional maps and 2-D as no maps at all.",
        "Use Dropout for features, Dropout1d for (batch, channels, length).",
        _dropout2d_shape,
    ),
    Rule(
        "LD008",
        "dropout active in eval",
        "Predictions are random, validation is too pessimistic, and its draws shift the masks of later training.",
        "Pass training=self.training, or use a dropout layer.",
        _active_in_eval,
    ),
    Rule(
        "LD009",
        "model in eval while training",
        "Dropout is off there for the whole run: fit() never calls train(), and from_pretrained() returns eval mode.",
        "Call model.train() before fit.",
        _in_eval_mode,
    ),
    Rule(
        "LD010",
        "zero-rate site elided",
        "What was built as Identity or None cannot be scheduled upwards.",
        "Build the dropout layer also at rate 0, or build with a small rate.",
        _elided,
    ),
)


def _name(run: Run) -> str:
    return run.site.name if run.site else run.where.module or ""


def _what(run: Run) -> str:
    name = f"{run.site.name!r}" if run.site else f"{run.call} in {run.where.module!r}"
    return f"{name} ({run.where.source})" if run.where.source else name
