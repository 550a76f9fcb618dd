"""The UNet's transformer blocks, and which of them wait in the host's memory where some are to (`blocks_to_swap`)."""

from __future__ import annotations

from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn


def transformer_blocks(unet: UNet2DConditionModel) -> list[nn.Module]:
    """In the order in which they compute, which is not that of the UNet's attributes."""
    parts = (unet.down_blocks, unet.mid_block, unet.up_blocks)
    return [module for part in parts for module in part.modules() if isinstance(module, BasicTransformerBlock)]


def swapped_blocks(unet: UNet2DConditionModel, count: int) -> list[nn.Module]:
    """The largest ones, spread over the network so that others compute while they are copied, in their order."""
    blocks = transformer_blocks(unet)
    sizes = [block_bytes(block) for block in blocks]
    chosen: set[int] = set()
    count = min(count, len(blocks))
    for size in sorted(set(sizes), reverse=True):
        alike = [index for index, other in enumerate(sizes) if other == size]
        wanted = min(count - len(chosen), len(alike))
        chosen.update(alike[place * len(alike) // wanted] for place in range(wanted))
    return [blocks[index] for index in sorted(chosen)]


def block_bytes(block: nn.Module) -> int:
    return sum(tensor.numel() * tensor.dtype.itemsize for tensor in [*block.parameters(), *block.buffers()])
