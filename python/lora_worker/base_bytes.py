"""How much memory the frozen weights of a base take, before or after they are loaded.

Counted tensor by tensor on networks without memory, made by the same code as those that are loaded, so it is exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lora_worker.architecture import Architecture
from lora_worker.fp8 import FP8, Fp8Base
from lora_worker.models import Models, networks_of
from lora_worker.transformer_blocks import swapped_blocks


@dataclass(frozen=True)
class BaseBytes:
    """On the device, and of blocks that are swapped, in the host's memory."""

    unet: int
    text_encoders: int
    host: int = 0

    @property
    def all(self) -> int:
        """On the device."""
        return self.unet + self.text_encoders


def base_bytes(
    architecture: Architecture, *, dtype: torch.dtype, fp8_base: Fp8Base = "off", blocks_to_swap: int = 0
) -> BaseBytes:
    """Of networks that are loaded so, while they are trained on. Loading them takes no more, but for one tensor."""
    models = networks_of(architecture, fp8_base)
    whole = _counted(models, dtype)
    blocks = swapped_blocks(models.unet, blocks_to_swap)
    sizes = sorted(sum(_size(tensor, dtype) for tensor in _tensors(block)) for block in blocks)
    return replace(whole, unet=whole.unet - sum(sizes) + sum(sizes[-2:]), host=sum(sizes))


def loaded_bytes(models: Models) -> BaseBytes:
    return _counted(models, None)


def _counted(models: Models, dtype: torch.dtype | None) -> BaseBytes:
    """`dtype`: what those will have that are no fp8 and no whole numbers. None: as they are."""
    return BaseBytes(
        sum(_size(tensor, dtype) for tensor in _tensors(models.unet)),
        sum(_size(tensor, dtype) for model in (models.text.one, models.text.two) for tensor in _tensors(model)),
    )


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def _size(tensor: Tensor, dtype: torch.dtype | None) -> int:
    fixed = dtype is None or tensor.dtype == FP8 or not tensor.is_floating_point()
    return tensor.numel() * (tensor.dtype if fixed or dtype is None else dtype).itemsize
