"""The parts of an SDXL UNet in the order in which they run, for any widths and depths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lora_worker.architecture import LEVELS, UNetShape


@dataclass(frozen=True)
class Resnet:
    """`path` is the checkpoint's, without prefix: `input_blocks.4.0`. Has a skip convolution where widths differ."""

    path: str
    in_width: int
    out_width: int


@dataclass(frozen=True)
class Attention:
    path: str
    width: int
    depth: int


@dataclass(frozen=True)
class Resample:
    """One 3×3 convolution: `op` halves the size with stride 2, `conv` follows a doubling."""

    path: str
    width: int
    stride: int


Part = Resnet | Attention | Resample


def unet_parts(unet: UNetShape) -> Iterator[Part]:
    """Everything inside the blocks, that is, all but the first and last convolution and the embeddings."""
    width = unet.widths[0]
    skips = [width]
    for level in range(LEVELS):
        for place in range(2):
            block = f"input_blocks.{1 + 3 * level + place}"
            yield Resnet(f"{block}.0", width, unet.widths[level])
            width = unet.widths[level]
            if unet.depths[level]:
                yield Attention(f"{block}.1", width, unet.depths[level])
            skips.append(width)
        if level < LEVELS - 1:
            yield Resample(f"input_blocks.{3 + 3 * level}.0.op", width, stride=2)
            skips.append(width)

    yield Resnet("middle_block.0", width, width)
    yield Attention("middle_block.1", width, unet.depths[-1])
    yield Resnet("middle_block.2", width, width)

    for level in reversed(range(LEVELS)):
        for place in range(3):
            block = f"output_blocks.{3 * (LEVELS - 1 - level) + place}"
            yield Resnet(f"{block}.0", width + skips.pop(), unet.widths[level])
            width = unet.widths[level]
            if unet.depths[level]:
                yield Attention(f"{block}.1", width, unet.depths[level])
            if level and place == 2:
                yield Resample(f"{block}.{2 if unet.depths[level] else 1}.conv", width, stride=1)


def linears_of_attention(attention: Attention, context_width: int) -> Iterator[tuple[str, int, int, bool]]:
    """Path below the attention, inputs, outputs, whether it has a bias."""
    width = attention.width
    yield "proj_in", width, width, True
    for index in range(attention.depth):
        block = f"transformer_blocks.{index}"
        yield f"{block}.attn1.to_q", width, width, False
        yield f"{block}.attn1.to_k", width, width, False
        yield f"{block}.attn1.to_v", width, width, False
        yield f"{block}.attn1.to_out.0", width, width, True
        yield f"{block}.ff.net.0.proj", width, 8 * width, True
        yield f"{block}.ff.net.2", 4 * width, width, True
        yield f"{block}.attn2.to_q", width, width, False
        yield f"{block}.attn2.to_k", context_width, width, False
        yield f"{block}.attn2.to_v", context_width, width, False
        yield f"{block}.attn2.to_out.0", width, width, True
    yield "proj_out", width, width, True
