"""Which parts of a model are trained."""

from __future__ import annotations

from torch import nn

__all__ = ["TrainedParts"]


class TrainedParts:
    """Tells which modules of a model are trained: those whose nearest surroundings with parameters have one to train.

    Example:
        >>> frozen = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).requires_grad_(False)
        >>> head = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
        >>> parts = TrainedParts(nn.Sequential(frozen, head))
        >>> frozen[1] in parts, head[1] in parts
        (False, True)
    """

    def __init__(self, model: nn.Module) -> None:
        self.parents = {child: parent for parent in model.modules() for child in parent.children()}
        self._known: dict[nn.Module | None, bool] = {None: True}

    def __contains__(self, module: nn.Module | None) -> bool:
        # Many layers have the same surroundings, whose parameters are looked for once.
        if module is not None and module not in self._known:
            trainable = [parameter.requires_grad for parameter in module.parameters()]
            self._known[module] = any(trainable) if trainable else self.parents.get(module) in self
        return self._known[module]
