"""Tell compiled modules from eager ones."""

from __future__ import annotations

from functools import cache
from types import FunctionType

import torch._dynamo
from torch import nn

__all__ = ["has_compiled_code", "runs_compiled"]


def runs_compiled(model: nn.Module) -> bool:
    """Whether any part of ``model`` was given to ``torch.compile``."""
    return any(map(has_compiled_code, model.modules()))


def has_compiled_code(module: nn.Module) -> bool:
    """Whether ``module`` itself was compiled, or one of its methods."""
    return (
        isinstance(module, torch._dynamo.OptimizedModule)
        or module._compiled_call_impl is not None
        or any(map(_is_compiled, vars(module).values()))
        or any(map(_has_compiled_methods, type(module).__mro__))
    )


@cache
def _has_compiled_methods(cls: type) -> bool:
    return any(map(_is_compiled, vars(cls).values()))


def _is_compiled(value: object) -> bool:
    return (
        isinstance(value, FunctionType)
        and hasattr(value, "_torchdynamo_orig_callable")
        and not hasattr(value, "_torchdynamo_disable")
    )
