"""Averaging areas, beside numbers that OpenCV gave, and beside sums over small squares."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_worker.area_filter import overlaps, shrunk


def counted(width: int, height: int) -> np.ndarray:
    return (np.arange(width * height) * 89 % 256).astype(np.uint8).reshape(height, width, 1)


# cv2.resize(…, interpolation=cv2.INTER_AREA) of opencv-python-headless 4.11.0 and 5.0.0, which agree.
GOLDEN = [
    ((7, 5), (3, 2), [[108, 114, 120], [126, 147, 123]]),
    ((6, 4), (3, 2), [[56, 106, 156], [100, 150, 200]]),
    ((9, 6), (3, 2), [[122, 133, 116], [136, 118, 129]]),
    ((8, 3), (5, 3), [[33, 135, 56, 136, 78], [137, 111, 128, 144, 118], [177, 119, 200, 120, 222]]),
    ((5, 5), (4, 3), [[73, 98, 112, 76], [130, 134, 118, 163], [155, 139, 185, 128]]),
    ((12, 7), (1, 2), [[126], [130]]),
]


@pytest.mark.parametrize(("size", "smaller", "expected"), GOLDEN)
def test_pictures_that_become_smaller_have_the_bytes_of_opencv(size, smaller, expected):
    assert shrunk(counted(*size), smaller)[:, :, 0].tolist() == expected


sides = st.tuples(st.integers(1, 24), st.integers(1, 24)).map(lambda pair: (max(pair), min(pair)))


@settings(max_examples=60, deadline=None)
@given(width=sides, height=sides, seed=st.integers(0, 2**32 - 1))
def test_each_pixel_is_the_mean_of_what_lies_below_it(width, height, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height[0], width[0], 3), dtype=np.uint8)
    # In so many parts both grids have their lines between them.
    fine = pixels.repeat(height[1], axis=0).repeat(width[1], axis=1).astype(np.float64)
    means = fine.reshape(height[1], height[0], width[1], width[0], 3).mean(axis=(1, 3))
    assert np.abs(shrunk(pixels, (width[1], height[1])) - means).max() <= 0.5 + 1e-3


@settings(max_examples=60, deadline=None)
@given(side=sides)
def test_weights_of_a_pixel_are_the_shares_of_its_length(side):
    length, count = side
    places, weights = overlaps(length, count)
    for place in range(count):
        start, end = Fraction(place * length, count), Fraction((place + 1) * length, count)
        shares = {
            pixel: float((min(end, pixel + 1) - max(start, pixel)) * count / length)
            for pixel in range(length)
            if min(end, pixel + 1) > max(start, pixel)
        }
        found = {int(at): weight for at, weight in zip(places[:, place], weights[:, place], strict=True) if weight}
        assert found == pytest.approx(shares, abs=1e-6)


def test_nothing_is_made_larger():
    with pytest.raises(ValueError, match="do not shrink"):
        shrunk(counted(4, 4), (5, 4))
