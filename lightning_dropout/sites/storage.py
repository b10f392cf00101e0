"""The table of where modules keep a dropout rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from lightning_dropout.layers import ConcreteDropout, LiveRate

__all__ = ["Storage", "register_site", "storages_of"]


@dataclass(frozen=True)
class Storage:
    """One attribute of a module class that holds a dropout rate.

    ``applies`` tells whether an instance can drop anything with it at all.
    """

    attribute: str
    kind: str
    applies: Callable[[Any], bool] = lambda module: True


_TABLE: dict[type[nn.Module], tuple[Storage, ...]] = {
    nn.Dropout1d: (Storage("p", "channel"),),
    nn.Dropout2d: (Storage("p", "channel"),),
    nn.Dropout3d: (Storage("p", "channel"),),
    nn.AlphaDropout: (Storage("p", "alpha"),),
    nn.FeatureAlphaDropout: (Storage("p", "alpha"),),
    _DropoutNd: (Storage("p", "element"),),
    nn.MultiheadAttention: (Storage("dropout", "attention"),),
    # torch drops between the layers of an RNN, so one layer has no dropout whatever its rate says.
    nn.RNNBase: (Storage("dropout", "recurrent", lambda rnn: rnn.num_layers > 1),),
    ConcreteDropout: (Storage("rate", "concrete"),),
}
_registered: dict[type[nn.Module], tuple[Storage, ...]] = {}


def register_site(module_class: type[nn.Module], attribute: str, *, kind: str = "element") -> None:
    """Teach ``find_sites`` that instances of ``module_class`` keep a dropout rate in ``attribute``.

    Holds for subclasses too. Registering the same attribute again changes its kind.

    Raises:
        TypeError: If ``module_class`` is not a subclass of ``torch.nn.Module``.

    Example:
        >>> class Gate(nn.Module):
        ...     drop_rate = 0.1
        >>> register_site(Gate, "drop_rate", kind="element")
        >>> [storage.attribute for storage in storages_of(Gate())]
        ['drop_rate']
    """
    if not (isinstance(module_class, type) and issubclass(module_class, nn.Module)):
        raise TypeError(f"register_site({module_class!r}, ...) needs a class derived from torch.nn.Module.")
    others = tuple(s for s in _registered.get(module_class, ()) if s.attribute != attribute)
    _registered[module_class] = (*others, Storage(attribute, kind))


def storages_of(module: nn.Module) -> tuple[Storage, ...]:
    """The storages of ``module``: what was registered for its classes, else what the table says of the nearest one."""
    if isinstance(module, LiveRate):
        return (Storage("rate", module.kind),)
    for table in (_registered, _TABLE):
        for cls in type(module).__mro__:
            if cls in table:
                return tuple(storage for storage in table[cls] if storage.applies(module))
    return ()
