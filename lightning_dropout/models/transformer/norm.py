"""The normalisations of a Transformer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_dropout.models.transformer.config import TransformerConfig

__all__ = ["RMSNorm", "make_norm"]


class RMSNorm(nn.RMSNorm):
    """``torch.nn.RMSNorm``, in half as many operations where torch has no kernel for it: fp32 on the CPU, eager.

    Example:
        >>> x = torch.randn(2, 8)
        >>> torch.allclose(RMSNorm(8, eps=1e-5)(x), torch.nn.RMSNorm(8, eps=1e-5)(x), atol=1e-6)
        True
    """

    eps: float

    def __init__(self, dim: int, *, eps: float) -> None:
        super().__init__(dim, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """Divide each ``(dim,)`` of ``x`` by the root of the mean of its squares."""
        is_plain = x.device.type == "cpu" and x.dtype == torch.float32 and x.shape[-1:] == self.weight.shape
        if torch.compiler.is_compiling() or not is_plain:
            return super().forward(x)
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        if torch.is_grad_enabled():
            normalized: Tensor = x * (length.square() / x.shape[-1] + self.eps).rsqrt() * self.weight
            return normalized
        scale: Tensor = length.square_().div_(x.shape[-1]).add_(self.eps).rsqrt_()  # the same, in place
        return (x * scale).mul_(self.weight)


def make_norm(config: TransformerConfig) -> nn.Module:
    """The normalisation that ``config`` asks for."""
    if config.norm == "rms":
        return RMSNorm(config.dim, eps=config.norm_eps)
    return nn.LayerNorm(config.dim, eps=config.norm_eps, bias=config.bias)
