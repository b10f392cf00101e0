"""The repeated blocks of a network: what is recomputed in backward, and what is sharded, one at a time."""

from __future__ import annotations

from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    CheckpointWrapper,
    apply_activation_checkpointing,
)
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard

__all__ = ["checkpoint_blocks", "repeated_blocks", "shard"]


def repeated_blocks(network: nn.Module) -> list[nn.Module]:
    """The modules held by the outermost ``nn.ModuleList``s of ``network``, in order.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 2), nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)]))
        >>> repeated_blocks(network)
        [Linear(in_features=2, out_features=2, bias=True), Linear(in_features=2, out_features=2, bias=True)]
    """
    blocks: list[nn.Module] = []
    for child in network.children():
        # A list in a list is no block: it cannot be called.
        is_block = isinstance(network, nn.ModuleList) and not isinstance(child, nn.ModuleList)
        blocks += [child] if is_block else repeated_blocks(child)
    return blocks


def checkpoint_blocks(network: nn.Module) -> None:
    """Recompute the activations of every repeated block in backward instead of keeping them.

    The random state is kept, so that the recomputed dropout masks are those of the forward pass. Names of parameters
    in the ``state_dict`` stay as they are. Blocks that are wrapped already are left alone.

    Raises:
        ValueError: If ``network`` has no repeated blocks.
    """
    blocks = repeated_blocks(network)
    if not blocks:
        raise ValueError(
            f"activation_checkpointing=True found no nn.ModuleList of blocks in {type(network).__name__}. "
            "Hold its blocks in one, or leave activation_checkpointing off."
        )
    plain = {block for block in blocks if not isinstance(block, CheckpointWrapper)}
    apply_activation_checkpointing(network, check_fn=plain.__contains__)


def shard(network: nn.Module, mesh: DeviceMesh) -> None:
    """Shard ``network`` over ``mesh`` with FSDP2: every repeated block on its own, then what is left."""
    if isinstance(network, FSDPModule):
        return
    for block in repeated_blocks(network):
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)
