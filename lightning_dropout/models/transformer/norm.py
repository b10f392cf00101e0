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

    def __init__(self, dim: int, *, eps: float) -> None:
        super().__init__(dim, eps=eps)
        self._eps = torch.tensor(eps, device="cpu")

    def forward(self, x: Tensor) -> Tensor:
        """Divide each ``(dim,)`` of ``x`` by the root of the mean of its squares."""
        if torch.compiler.is_compiling() or x.device.type != "cpu" or x.dtype != torch.float32:
            return super().forward(x)
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        mean_square = torch.addcmul(self._eps, length, length, value=1.0 / x.shape[-1])
        return x * mean_square.rsqrt() * self.weight


def make_norm(config: TransformerConfig) -> nn.Module:
    """The normalisation that ``config`` asks for."""
    if config.norm == "rms":
        return RMSNorm(config.dim, eps=config.norm_eps)
    return nn.LayerNorm(config.dim, eps=config.norm_eps, bias=config.bias)
