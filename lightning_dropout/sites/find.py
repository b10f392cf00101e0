"""Find every dropout site of a model."""

from __future__ import annotations

from numbers import Real

from torch import nn

from lightning_dropout.sites.site import Site
from lightning_dropout.sites.sites import Sites
from lightning_dropout.sites.storage import storages_of

__all__ = ["clean_name", "find_sites"]

_WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})


def find_sites(model: nn.Module) -> Sites:
    """Find every place in ``model`` where a dropout rate is stored.

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
    if isinstance(model, nn.parallel.DistributedDataParallel):
        model = model.module
    names: dict[nn.Module, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(clean_name(path))
    sites = []
    for module, paths in names.items():
        storages = storages_of(module)
        for storage in storages:
            _check(module, storage.attribute, paths[0])
            suffix = storage.attribute if len(storages) > 1 else ""
            site_names = tuple(".".join(filter(None, (path, suffix))) or storage.attribute for path in paths)
            sites.append(Site(module, storage.attribute, kind=storage.kind, names=tuple(dict.fromkeys(site_names))))
    return Sites(sites)


def clean_name(path: str) -> str:
    """``path`` of a module without what wrappers put into it."""
    return ".".join(part for part in path.split(".") if part not in _WRAPPERS)


def _check(module: nn.Module, attribute: str, path: str) -> None:
    where = f"{type(module).__name__}.{attribute} at {path!r}"
    try:
        rate = getattr(module, attribute)
    except AttributeError:
        raise ValueError(f"{where} does not exist. Register the attribute that holds the dropout rate.") from None
    if isinstance(rate, bool) or not isinstance(rate, Real):
        raise ValueError(f"{where} is {rate!r}, which is no number. Register an attribute that holds a dropout rate.")
