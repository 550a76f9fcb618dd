"""Activations that are computed a second time for the backward pass instead of being kept.

It is decided block by block: a residual block or a transformer block of the UNet each, and both text encoders together.
No number changes by it. Non-reentrant, so gradients reach whatever a block holds, and without keeping random states:
nothing in a block is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lora_worker.models import Models

TEXT = "text encoders"
"""The name of the text encoders beside those of the UNet's blocks."""


def unet_blocks(models: Models) -> Mapping[str, nn.Module]:
    """What can be checkpointed by itself, by the UNet's own names."""
    kinds = (ResnetBlock2D, BasicTransformerBlock)
    return {name: module for name, module in models.unet.named_modules() if isinstance(module, kinds)}


def all_blocks(models: Models) -> frozenset[str]:
    return frozenset((*unet_blocks(models), TEXT))


def set_checkpointing(models: Models, on: bool) -> None:
    """Of all blocks."""
    checkpoint_blocks(models, all_blocks(models) if on else ())


def checkpoint_blocks(models: Models, names: Collection[str]) -> None:
    """These blocks, and no others."""
    chosen = {module for name, module in unet_blocks(models).items() if name in names}
    if chosen:
        # diffusers gives each of its blocks to this function, which decides.
        models.unet.enable_gradient_checkpointing(_selective(chosen))
    else:
        models.unet.disable_gradient_checkpointing()
    for encoder in (models.text.one, models.text.two):
        # transformers looks at the mode. Nothing else does: all dropouts are 0.
        encoder.train(TEXT in names)
        if TEXT in names:
            encoder.gradient_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
        else:
            encoder.gradient_checkpointing_disable()


def _selective(chosen: Collection[nn.Module]) -> Callable[..., Tensor]:
    def run(block: nn.Module, *inputs: object) -> Tensor:
        if block not in chosen:
            return block(*inputs)
        return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)

    return run
