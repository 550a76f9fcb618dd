"""Masks: how much each place of an image counts in the loss.

A mask is a picture beside the image (white counts, black does not, and neither does what is transparent), or the alpha
of the image itself. It goes the way of its image: turned, scaled by the same filter, cropped, mirrored. Then each place
of the latents has the mean over its 8×8 pixels, which is what sd-scripts' `apply_masked_loss`
(library/custom_train_functions.py) makes of it with `interpolate(mode="area")`.

Shape letters: B images, H and W the latents' height and width.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lora_worker.images import BadImage, Framing, Reading, framed, has_shape, opaque, opened, turned
from lora_worker.protocol import Fields, ProtocolError

_PIXELS = 8
"""Of a side, below one place of the latents."""


@dataclass(frozen=True)
class MaskedLoss:
    """No place counts less than `unmasked_weight`. With `normalize`, the places of an image count 1 on average, so that
    a small mask does not mean a small loss."""

    unmasked_weight: float = 0.0
    normalize: bool = False

    @staticmethod
    def parse(fields: Fields) -> MaskedLoss:
        """Raises ProtocolError."""
        weight = fields.number("unmasked_weight")
        if not 0 <= weight <= 1:
            raise ProtocolError(f'"{fields.where}.unmasked_weight" must be from 0 to 1, and is {weight}')
        return MaskedLoss(weight, fields.flag("normalize"))

    def weights(self, mask_HW: Tensor) -> Tensor:
        """What the loss of each place is multiplied by, F32 [H, W]. A mask that leaves nothing stays so."""
        counts = mask_HW.clamp(min=self.unmasked_weight)
        mean = counts.mean()
        return counts / mean if self.normalize and mean > 0 else counts


AS_IT_IS = MaskedLoss()
"""Each place counts what its mask says."""


def load_mask(path: str | PathLike[str], framing: Framing, reading: Reading) -> Tensor:
    """Of a picture that may have another size than its image, and has its shape. F32 [H, W] from 0 to 1.

    Raises `BadImage`.
    """
    grey = opened(path, lambda image: opaque(turned(image, reading), (0, 0, 0)).convert("L"))
    if not has_shape(grey.size, framing.resized):
        width, height = framing.resized
        raise BadImage(
            f"the mask is {grey.size[0]}x{grey.size[1]}, "
            f"which is not the shape of its image ({width}x{height} when scaled)"
        )
    return _to_latent_size(framed(grey, framing, reading))


def load_alpha(path: str | PathLike[str], framing: Framing, reading: Reading) -> Tensor:
    """How opaque an image is, F32 [H, W] from 0 to 1; 1 where it has no alpha. Raises `BadImage`."""
    return _to_latent_size(framed(opened(path, lambda image: turned(_alpha(image), reading)), framing, reading))


def _alpha(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return Image.new("L", image.size, 255)
    alpha = image.convert("RGBA").getchannel("A")
    # The orientation is read from it next.
    alpha.info = image.info
    return alpha


def _to_latent_size(mask: Image.Image) -> Tensor:
    pixels = np.asarray(mask, dtype=np.float64)
    height, width = pixels.shape[0] // _PIXELS, pixels.shape[1] // _PIXELS
    means_HW = pixels.reshape(height, _PIXELS, width, _PIXELS).mean(axis=(1, 3)) / 255
    return torch.from_numpy(means_HW.astype(np.float32))
