"""Differences of pictures as colours, from black by way of purple and orange to a pale yellow.

Lightness grows evenly along the scale (CIE L* 3 to 97), so what looks twice as far is so, also in a print without
colours and for eyes that tell few of them apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_ANCHORS = ("0c0725", "350560", "6f0f76", "b01d6b", "de4e58", "fb854c", "ffbd5a", "fff7b0")

_STEPS = (0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7)


def _palette() -> NDArray[np.uint8]:
    anchors = np.array([[int(colour[at : at + 2], 16) for at in (0, 2, 4)] for colour in _ANCHORS], dtype=np.float64)
    places = np.linspace(0, len(_ANCHORS) - 1, 256)
    channels = [np.interp(places, np.arange(len(_ANCHORS)), anchors[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=1).round().astype(np.uint8)


PALETTE = _palette()
"""[256, 3], sRGB."""


def heat_map(values_HW: NDArray[np.float32], maximum: float) -> Image.Image:
    """0 is the darkest colour, `maximum` and all above it the brightest."""
    places = np.clip(values_HW * (255 / maximum), 0, 255).round().astype(np.uint8)
    return Image.fromarray(PALETTE[places])


def scale_bar(width: int, height: int) -> Image.Image:
    """From 0 on the left to the maximum on the right."""
    places = np.linspace(0, 255, width).round().astype(np.uint8)
    return Image.fromarray(np.repeat(PALETTE[places][None], height, axis=0))


def round_maximum(largest: float) -> float:
    """The end of a scale for values from 0 up to `largest`, which is 1 at most: the next number that reads well."""
    return next((step for step in _STEPS if largest <= step), 1.0)
