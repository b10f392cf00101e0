"""Monte Carlo dropout: predictions with an uncertainty, from several dropout masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from lightning_dropout.sites import Site, Sites, find_sites, intended_dropout

__all__ = ["MCPrediction", "Task", "check_num_samples", "mc_predict", "sampling_dropout", "summarize_samples"]

Task = Literal["classification", "regression"]

# Kinds that draw one mask for all rows of a call.
_SHARED_KINDS = ("embedding", "layer", "weight")


class MCPrediction(NamedTuple):
    """What several dropout masks say about a batch.

    For a classifier, ``mean`` and ``variance`` are those of the probabilities, ``(batch, ..., num_classes)``, and the
    other two are ``(batch, ...)``, in nats. ``entropy`` is the entropy of the mean: all of the uncertainty.
    ``mutual_information`` is the part of it that the masks disagree about, which more data could remove. A regressor
    has a mean and a variance in the units of its output, without the noise of the targets, and None for the others.
    """

    mean: Tensor
    variance: Tensor
    entropy: Tensor | None = None
    mutual_information: Tensor | None = None


def summarize_samples(samples: Tensor, *, task: Task = "classification") -> MCPrediction:
    """Sum up the outputs under several masks: logits ``(num_samples, batch, ..., num_classes)``, or numbers.

    A single logit counts as the second of two classes, the first having logit 0.

    Raises:
        ValueError: If ``task`` is unknown, or if there is no dimension of classes.

    Example:
        >>> certain, split = torch.tensor([[9.0, -9.0]]), torch.tensor([[-9.0, 9.0]])
        >>> summarize_samples(torch.stack([certain, certain])).mutual_information
        tensor([0.])
        >>> summarize_samples(torch.stack([certain, split])).mutual_information
        tensor([0.6931])
    """
    samples = samples.to(torch.promote_types(samples.dtype, torch.float32))
    if task == "regression":
        return MCPrediction(samples.mean(0), samples.var(0, correction=0))
    if task != "classification":
        raise ValueError(f"task={task!r} is unknown. Give 'classification' or 'regression'.")
    if samples.dim() < 3:
        raise ValueError(
            f"A classifier returns logits (batch, ..., num_classes); this model returned {tuple(samples.shape[1:])}. "
            "Pass task='regression' if its outputs are numbers."
        )
    if samples.shape[-1] == 1:
        samples = torch.cat([torch.zeros_like(samples), samples], dim=-1)
    probabilities = samples.softmax(-1)
    mean, variance = probabilities.mean(0), probabilities.var(0, correction=0)
    entropy = torch.special.entr(mean).sum(-1)
    expected_entropy = torch.special.entr(probabilities).sum(-1).mean(0)
    return MCPrediction(mean, variance, entropy, (entropy - expected_entropy).clamp(min=0.0))


def mc_predict(
    model: nn.Module,
    batch: Any,
    num_samples: int = 20,
    *,
    task: Task = "classification",
    max_batch: int | None = None,
    forward: Callable[[Any], Any] | None = None,
) -> MCPrediction:
    """Predict under ``num_samples`` dropout masks, with dropout on and all else in eval mode (Gal & Ghahramani 2016).

    Modes are back as they were afterwards, also after an exception. The masks come from the global random state; the
    rates are those of now, so ``with find_sites(model).override(0.2):`` samples at another rate. Dropout that is no
    site, such as ``F.dropout(x, training=self.training)`` in a module of your own, stays off until ``register_site``
    knows it.

    All samples run as one batch. A dropout kind with one mask per call (layer, weight, embedding, stochastic depth in
    batch mode) would then have one mask for all of them, so such a model runs once per sample.

    Args:
        model: Any network with a dropout site whose rate is above 0.
        batch: A tensor, whose first dimension is the batch; a tuple or list, of which the first element is the input;
            a dict of keyword arguments. Outputs of Hugging Face models are read through their ``logits``.
        num_samples: Number of masks.
        task: Whether outputs are logits, classes last, or numbers.
        max_batch: Most rows of one call, as memory allows; at least one sample runs at once. With 1, every call gets
            the batch as it is, which suits a model whose batch is not the first dimension.
        forward: How to run the batch instead, such as ``lambda batch: model(batch["x"], batch["y"])``.

    Raises:
        ValueError: If there is no dropout to sample from, or if outputs do not fit the batch.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
        >>> prediction = mc_predict(model, torch.randn(2, 4), num_samples=10)
        >>> prediction.mean.shape, prediction.entropy.shape
        (torch.Size([2, 3]), torch.Size([2]))
    """
    check_num_samples("mc_predict", num_samples, max_batch)
    run = forward or (lambda batch: _call(model, batch))
    if isinstance(batch, Mapping):
        batch = dict(batch)  # a Hugging Face BatchEncoding hides its tensors
    with torch.no_grad(), sampling_dropout(model) as sites:
        num_rows = _num_rows(batch)
        num_at_once = num_samples if max_batch is None else max(max_batch // num_rows, 1)
        if any(map(_shares_masks, sites)):
            num_at_once = 1
        samples = [
            _sample(run, batch, num_rows, min(num_at_once, num_samples - done))
            for done in range(0, num_samples, num_at_once)
        ]
    return summarize_samples(torch.cat(samples), task=task)


def check_num_samples(owner: str, num_samples: int, max_batch: int | None) -> None:
    """Refuse numbers of samples, or of rows of one call, that are no whole numbers from 1 on.

    Raises:
        ValueError: Naming the argument and what it was.
    """
    if not isinstance(num_samples, int) or num_samples < 1:
        raise ValueError(f"{owner}(num_samples={num_samples!r}): give a whole number from 1 on.")
    if max_batch is not None and (not isinstance(max_batch, int) or max_batch < 1):
        raise ValueError(f"{owner}(max_batch={max_batch!r}): give a whole number of rows, from 1 on.")


@contextmanager
def sampling_dropout(model: nn.Module) -> Iterator[Sites]:
    """Inside a ``with`` block dropout is on and all else is in eval mode; yields the sites that drop.

    Only the modules that hold a rate are switched, not their children: batch norm inside an attention module stays in
    eval. The fused inference kernels of ``nn.TransformerEncoder``, which know no dropout, are off meanwhile.

    Raises:
        ValueError: If no site has a rate above 0.
    """
    found = find_sites(model)
    sites = Sites([site for site in found if site.rate > 0.0])
    if len(sites) == 0:
        names = ", ".join(f"{name} at {group[0].rate:g}" for name, group in found.groups().items())
        raise ValueError(
            f"Monte Carlo dropout found no dropout site with a rate above 0 in {type(model).__name__} "
            f"(found: {names or 'no site at all'}). Set a rate with find_sites(model).set(...), or register_site()."
        )
    modes = {module: module.training for module in model.modules()}
    fused = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        for module in modes:
            module.training = False  # not train(): some override it, and it would reach the children
        for site in sites:
            for module in (site.module, *(twin for twin, _ in site.twins)):
                module.training = True
        with intended_dropout():
            yield sites
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for module, training in modes.items():
            module.training = training


def _shares_masks(site: Site) -> bool:
    return site.kind in _SHARED_KINDS or (site.kind == "path" and getattr(site.module, "mode", "row") == "batch")


def _call(model: nn.Module, batch: Any) -> Any:
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(batch[0] if isinstance(batch, (tuple, list)) else batch)


def _num_rows(batch: Any) -> int:
    for leaf in tree_leaves(batch):
        if isinstance(leaf, Tensor) and leaf.dim() > 0:
            return len(leaf)
    raise ValueError(f"mc_predict() found no tensor with a batch dimension in a batch of type {type(batch).__name__}.")


def _sample(run: Callable[[Any], Any], batch: Any, num_rows: int, num_samples: int) -> Tensor:
    """Outputs under ``num_samples`` masks, from one call with as many copies of the rows."""

    def copies(x: Any) -> Any:
        has_rows = isinstance(x, Tensor) and x.dim() > 0 and len(x) == num_rows
        return x.repeat(num_samples, *(1,) * (x.dim() - 1)) if has_rows else x

    output = run(batch if num_samples == 1 else tree_map(copies, batch))
    output = getattr(output, "logits", output)
    if not isinstance(output, Tensor):
        raise ValueError(f"mc_predict() needs a tensor and got {type(output).__name__}. Pass forward= to return one.")
    if num_samples == 1:
        return output.unsqueeze(0)
    if output.dim() == 0 or len(output) != num_samples * num_rows:
        raise ValueError(
            f"mc_predict() ran {num_samples * num_rows} rows and got an output of shape {tuple(output.shape)}. "
            "Pass max_batch=1 to run the batch as it is, once per sample."
        )
    return output.reshape(num_samples, num_rows, *output.shape[1:])
