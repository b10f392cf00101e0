"""Find every dropout site of a model."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real

from torch import Tensor, nn

from lightning_dropout.layers.rate import LiveRate
from lightning_dropout.sites.code import class_name
from lightning_dropout.sites.kinds import is_attention_name, kind_of_attribute, same_rate
from lightning_dropout.sites.places import Place, holder_of, read_place
from lightning_dropout.sites.site import Site
from lightning_dropout.sites.sites import Sites
from lightning_dropout.sites.storage import Storage, storages_of

__all__ = ["clean_name", "find_sites", "unwrap"]

_WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})


def find_sites(model: nn.Module) -> Sites:
    """Find every place in ``model`` where a dropout rate is stored.

    Those are our layers and torch's, what was registered with ``register_site``, dropout layers of other libraries, and
    floats of any module, its config or its class that have a dropout's name and that its code reads when it runs. A
    float that was only handed on to a layer is none; one that was copied from a layer and is read too is set with it.
    ``trace_sites`` tells which of them a forward really uses.

    A module that is used under several names is one site with all of them. What ``torch.compile``, FSDP, activation
    checkpointing and DDP put into a name is left out.

    Raises:
        TypeError: If ``model`` is no ``torch.nn.Module``.
        ValueError: If an attribute that was registered as a site holds no number.

    Example:
        >>> layer = nn.TransformerEncoderLayer(d_model=8, nhead=2, dim_feedforward=8, dropout=0.1)
        >>> for site in find_sites(layer):
        ...     print(site.name, site.kind, site.rate)
        self_attn attention 0.1
        dropout element 0.1
        dropout1 element 0.1
        dropout2 element 0.1
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"find_sites() takes a torch.nn.Module, not {type(model).__name__}.")
    paths: dict[nn.Module, list[str]] = {}
    for path, module in unwrap(model).named_modules(remove_duplicate=False):
        paths.setdefault(module, []).append(path)
    finder = _Finder()
    for module, its_paths in paths.items():
        finder.visit(module, its_paths)
    return finder.sites()


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside of data parallelism, whose prefix is an ordinary word and cannot be told from a name later."""
    while isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
        model = model.module
    return model


def clean_name(path: str) -> str:
    """``path`` of a module without what wrappers put into it."""
    return ".".join(part for part in path.split(".") if part and part not in _WRAPPERS)


class _Finder:
    """Collects sites, module by module; a module comes before its children, of which it may know more than they do."""

    def __init__(self) -> None:
        self._sites: dict[tuple[int, str], Site] = {}
        self._kinds: dict[nn.Module, str] = {}
        self._twins: dict[nn.Module, list[Place]] = {}

    def sites(self) -> Sites:
        """What was found so far."""
        return Sites(list(self._sites.values()))

    def visit(self, module: nn.Module, paths: Sequence[str]) -> None:
        """Add the sites of ``module`` itself."""
        layers = {name: child for name, child in module._modules.items() if "drop" in name and child is not None}
        if layers:
            self._tell_kinds(module, layers)
        storages = storages_of(module)
        if layers:
            storages = tuple(storage for storage in storages if not self._is_twin(module, storage, layers))
        for storage in storages:
            self._add(module, storage, paths, is_only=len(storages) == 1)

    def _tell_kinds(self, module: nn.Module, layers: dict[str, nn.Module]) -> None:
        """Remember which of the dropout layers of ``module`` drop attention weights."""
        names = [_class_name(module), *map(_class_name, module.children())]
        # Of an attention inside an attention, the outer one is a wrapper with a projection and its dropout.
        own_name = names[0] if sum(map(is_attention_name, names)) == 1 else ""
        for name, layer in layers.items():
            if kind_of_attribute(name, own_name) == "attention":
                self._kinds.setdefault(layer, "attention")

    def _add(self, module: nn.Module, storage: Storage, paths: Sequence[str], *, is_only: bool) -> None:
        attribute = storage.attribute
        is_only = is_only and "." not in attribute
        names = [clean_name(path if is_only and path else f"{path}.{attribute}") for path in paths]
        _check(module, attribute, paths[0])
        key = id(holder_of(module, attribute)[0]), attribute
        if (tied := self._sites.get(key)) is not None:
            tied.names = tuple(dict.fromkeys((*tied.names, *names)))
            return
        kind = self._kinds.get(module, "element") if storage.kind == "element" else storage.kind
        twins = tuple(self._twins.get(module, ()))
        self._sites[key] = Site(module, attribute, kind=kind, names=tuple(dict.fromkeys(names)), twins=twins)

    def _is_twin(self, module: nn.Module, storage: Storage, layers: dict[str, nn.Module]) -> bool:
        """Whether a float is a copy of the rate of a dropout layer beside it, which then moves with that layer."""
        if "." in storage.attribute:
            return False
        for name, layer in layers.items():
            own = storages_of(layer)
            if len(own) != 1 or isinstance(layer, LiveRate):
                continue
            on_same_weights = storage.kind == self._kinds.get(layer) == "attention" and (
                read_place(layer, own[0].attribute) == read_place(module, storage.attribute)
            )
            if on_same_weights or same_rate(storage.attribute, name):
                self._twins.setdefault(layer, []).append((module, storage.attribute))
                return True
        return False


def _class_name(module: nn.Module) -> str:
    cls: type = type(module)
    return class_name(cls)


def _check(module: nn.Module, attribute: str, name: str) -> None:
    where = f"{type(module).__name__}.{attribute}" + (f" at {name!r}" if name else "")
    try:
        rate = read_place(module, attribute)
    except AttributeError:
        raise ValueError(f"{where} does not exist. Register the attribute that holds the dropout rate.") from None
    if isinstance(rate, Tensor) and rate.dim() == 0:
        return  # torch takes a rate in this form too
    if isinstance(rate, bool) or not isinstance(rate, Real):
        raise ValueError(f"{where} is {rate!r}, which is no number. Register an attribute that holds a dropout rate.")
