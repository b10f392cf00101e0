"""R-Drop: two forward passes under different dropout masks shall agree."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = ["symmetric_kl"]


def symmetric_kl(first: Tensor, second: Tensor, *, dim: int = -1) -> Tensor:
    """``(KL(p || q) + KL(q || p)) / 2`` of the softmax over ``dim`` of two tensors of logits (Wu et al. 2021).

    Example:
        >>> import torch
        >>> symmetric_kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 2.0]]))
        tensor([0.3808])
    """
    log_p, log_q = F.log_softmax(first, dim), F.log_softmax(second, dim)
    # The sum of both directions is one sum: (p - q)(log p - log q).
    return 0.5 * ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(dim)
