"""Noise for diffusion training. Nothing here owns a random state: sources come in as arguments.

Shape letters: B images, C channels, H and W the latent's height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor
from torch.nn import functional

Normal = Callable[[Sequence[int]], Tensor]
"""A standard normal tensor, F32, of a shape."""
Uniform = Callable[[], float]
"""One number from 0 up to, not including, 1."""

PER_IMAGE = (1, 2, 3)
"""Axes of the standard deviation that keep the images of a batch apart."""
WHOLE_BATCH = (0, 1, 2, 3)
"""Axes of the standard deviation that sd-scripts takes; each image then depends a little on the others."""


def offset_noise(
    noise_CHW: Tensor,
    latents_CHW: Tensor,
    *,
    offset: float,
    adaptive_scale: float,
    normal: Normal,
) -> Tensor:
    """`noise_CHW` plus one normal number per channel, so that brightness and color of a whole image get noise as well.

    It is multiplied by `offset` + `adaptive_scale` · |mean of the latents' channel|, or 0 where that is negative.
    """
    channels = noise_CHW.shape[0]
    strength_C11 = (offset + adaptive_scale * latents_CHW.mean(dim=(1, 2), keepdim=True).abs()).clamp(min=0)
    return noise_CHW + strength_C11 * normal((channels, 1, 1))


def pyramid_noise(
    noise_BCHW: Tensor,
    *,
    iterations: int,
    discount: float,
    uniform: Uniform,
    normal: Normal,
    std_axes: Sequence[int] | None,
) -> Tensor:
    """Multi-resolution noise: `noise_BCHW` plus ever coarser normals, enlarged and weighted by powers of `discount`.

    Level i is drawn at 1 / rⁱ of the size with 2 ≤ r < 4 drawn anew for each level, so sizes need not shrink steadily,
    and level 0 is a second normal at full size. It ends after `iterations` levels or at the first level one cell wide
    or high. The result is divided by its standard deviation over `std_axes` (None: not). With WHOLE_BATCH this is the
    pyramid noise of sd-scripts, draw for draw (test/fixtures/golden/multires-noise.json).
    """
    batch, channels, height, width = noise_BCHW.shape
    total = noise_BCHW
    for level in range(iterations):
        ratio = uniform() * 2 + 2
        level_width = max(1, int(width / ratio**level))
        level_height = max(1, int(height / ratio**level))
        coarse = normal((batch, channels, level_height, level_width))
        enlarged = functional.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
        total = total + enlarged * discount**level
        if level_width == 1 or level_height == 1:
            break
    return total if std_axes is None else total / total.std(dim=tuple(std_axes), keepdim=True)


def normal_from(generator: Generator) -> Normal:
    """Normals from one CPU generator."""
    return lambda shape: torch.randn(tuple(shape), generator=generator)


def uniform_from(generator: Generator) -> Uniform:
    """Uniform numbers from one CPU generator."""
    return lambda: torch.rand((), generator=generator).item()
