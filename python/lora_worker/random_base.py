"""A base whose weights are random numbers made on the device: for measuring, where what it draws does not matter.

It is opened as a file is, and whoever loads it takes the same way. A full-size SDXL is there within seconds, without
the 7 GB that a file of it would have to be written with and read from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from lora_worker.architecture import VOCABULARY, Architecture, Shape, TextShape, UNetShape, VaeShape
from lora_worker.toy.random_tensors import random_tensor
from lora_worker.toy.shapes import checkpoint_shapes

SDXL = Architecture(
    unet=UNetShape(widths=(320, 640, 1280), depths=(0, 2, 10), time_width=1280, context_width=2048, vector_width=2816),
    te1=TextShape(layers=12, width=768, mlp_width=3072, vocabulary=VOCABULARY),
    te2=TextShape(layers=32, width=1280, mlp_width=5120, vocabulary=VOCABULARY),
    pooled_width=1280,
    vae=VaeShape((128, 256, 512, 512)),
)
"""What SDXL's own files say."""


@dataclass(frozen=True)
class RandomBase:
    """`name` is what messages call it."""

    name: str
    architecture: Architecture
    device: str

    @property
    def files(self) -> tuple[str, ...]:
        return ()


class RandomCheckpoint:
    """A random base, open: what `Checkpoint` is to a file. Tensors are F16, as published checkpoints have them."""

    def __init__(self, base: RandomBase) -> None:
        self._base = base
        self.path = base.name
        self.architecture = base.architecture
        self.shapes: Mapping[str, Shape] = checkpoint_shapes(base.architecture)

    def __enter__(self) -> RandomCheckpoint:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def tensor(self, name: str) -> Tensor:
        return random_tensor(name, self.shapes[name], self._base.device).half()

    def rows(self, name: str, start: int, end: int) -> Tensor:
        """Those from `start` up to, not including, `end`. What other rows hold is not the same as in `tensor`."""
        return self.tensor(name)[start:end]
