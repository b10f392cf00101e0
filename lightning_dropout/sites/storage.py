"""The table of where modules keep a dropout rate."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from lightning_dropout.layers import ConcreteDropout, LiveRate
from lightning_dropout.sites.code import SETTINGS, class_name, names_read, names_read_in_forward
from lightning_dropout.sites.kinds import is_rate_name, kind_of_attribute

__all__ = ["Storage", "register_site", "storages_of"]


def _always(module: nn.Module) -> bool:
    return True


@dataclass(frozen=True)
class Storage:
    """One place in a module of some class that holds a dropout rate.

    ``attribute`` is its path from the module: ``"p"``, or ``"layer_dropouts.3"`` for an item of a tuple, or
    ``"config.layerdrop"``. ``applies`` tells whether an instance can drop anything with it at all.
    """

    attribute: str
    kind: str
    applies: Callable[[Any], bool] = _always


_TYPES: dict[type[nn.Module], tuple[Storage, ...]] = {
    ConcreteDropout: (Storage("rate", "concrete"),),
    nn.Dropout1d: (Storage("p", "channel"),),
    nn.Dropout2d: (Storage("p", "channel"),),
    nn.Dropout3d: (Storage("p", "channel"),),
    nn.AlphaDropout: (Storage("p", "alpha"),),
    nn.FeatureAlphaDropout: (Storage("p", "alpha"),),
    _DropoutNd: (Storage("p", "element"),),
    nn.MultiheadAttention: (Storage("dropout", "attention"),),
    # torch drops between the layers of an RNN, so one layer has no dropout whatever its rate says.
    nn.RNNBase: (Storage("dropout", "recurrent", lambda rnn: rnn.num_layers > 1),),
}

# Layers of other libraries, by the name of their class so that nothing is imported: torchvision, timm, fairseq,
# fastai, Hugging Face and whoever follows them. The attributes are the names under which they keep the rate.
_LAYERS: tuple[tuple[re.Pattern[str], tuple[str, ...], str], ...] = (
    (re.compile(r"StochasticDepth|.*DropPath.*"), ("p", "prob", "rate", "drop_prob"), "path"),
    (re.compile(r".*DropBlock.*"), ("p", "prob", "rate", "drop_prob"), "block"),
    (re.compile(r"(Patch|Token)Drop.*"), ("p", "prob", "rate"), "token"),
    (re.compile(r"LayerDrop.*"), ("p", "prob", "rate"), "layer"),
    (re.compile(r"(Locked|RNN|Variational).*Drop.*"), ("p", "rate", "prob"), "locked"),
    (re.compile(r"(Embedding|Word)Drop.*"), ("p", "embed_p", "rate"), "embedding"),
    (re.compile(r"WeightDrop.*|DropConnect.*"), ("p", "weight_p", "rate"), "weight"),
    (re.compile(r"Gaussian.*Drop.*"), ("p", "rate"), "gaussian"),
    (re.compile(r".*Dropout.*"), ("p", "rate", "prob", "ratio", "drop_prob"), "element"),
)
_registered: dict[type[nn.Module], tuple[Storage, ...]] = {}


def register_site(module_class: type[nn.Module], attribute: str, *, kind: str = "element") -> None:
    """Teach ``find_sites`` that instances of ``module_class`` keep a dropout rate in ``attribute``.

    Holds for subclasses too. Registering the same attribute again changes its kind.

    Raises:
        TypeError: If ``module_class`` is not a subclass of ``torch.nn.Module``.

    Example:
        >>> class Gate(nn.Module):
        ...     sparsity = 0.1
        >>> register_site(Gate, "sparsity", kind="element")
        >>> [storage.attribute for storage in storages_of(Gate())]
        ['sparsity']
    """
    if not (isinstance(module_class, type) and issubclass(module_class, nn.Module)):
        raise TypeError(f"register_site({module_class!r}, ...) needs a class derived from torch.nn.Module.")
    others = tuple(s for s in _registered.get(module_class, ()) if s.attribute != attribute)
    _registered[module_class] = (*others, Storage(attribute, kind))
    _storages_of_class.cache_clear()


def storages_of(module: nn.Module) -> tuple[Storage, ...]:
    """Where ``module`` itself keeps dropout rates."""
    cls: type = type(module)
    fixed, names = _storages_of_class(cls)
    if not (fixed or names):
        return ()
    storages = [storage for storage in fixed if storage.applies(module)]
    for path, kind in names:
        storages += _stored_floats(module, path, kind)
    return tuple(storages)


@cache
def _storages_of_class(cls: type) -> tuple[tuple[Storage, ...], tuple[tuple[str, str], ...]]:
    """The storages that every instance has, and the names and kinds of floats that an instance may have."""
    if issubclass(cls, LiveRate):
        return (Storage("rate", cls.kind),), ()
    registered = [storage for base in reversed(cls.__mro__) for storage in _registered.get(base, ())]
    listed = next((_TYPES[base] for base in cls.__mro__ if base in _TYPES), ())
    fixed = {storage.attribute: storage for storage in (*listed, *registered)}
    return tuple(fixed.values()), tuple((name, kind) for name, kind in _rate_names(cls) if name not in fixed)


def _rate_names(cls: type) -> Iterator[tuple[str, str]]:
    """The names that would be live rates if an instance had them, because the code of the class reads them."""
    own_name = class_name(cls)
    layer = next(((names, kind) for pattern, names, kind in _LAYERS if pattern.fullmatch(own_name)), None)
    for name in sorted(names_read(cls)):
        if "." not in name and (is_rate_name(name) or (layer and name in layer[0])):
            yield name, layer[1] if layer else kind_of_attribute(name, own_name)
    # Most floats among settings are handed to layers once; few are read in every forward.
    for path in sorted(names_read_in_forward(cls)):
        holder, _, name = path.partition(".")
        if holder in SETTINGS and is_rate_name(name):
            yield path, kind_of_attribute(name, own_name)


def _stored_floats(module: nn.Module, path: str, kind: str) -> Iterator[Storage]:
    holder, _, name = path.partition(".")
    if name:
        value = getattr(getattr(module, holder, None), name, None)
    else:
        value = vars(module).get(path, getattr(type(module), path, None))
    if _is_rate(value):
        yield Storage(path, kind)
    elif isinstance(value, (tuple, list)) and all(map(_is_rate, value)):
        yield from (Storage(f"{path}.{index}", kind) for index in range(len(value)))


def _is_rate(value: Any) -> bool:
    return isinstance(value, (float, int)) and not isinstance(value, bool) and 0.0 <= value <= 1.0
