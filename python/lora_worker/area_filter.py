"""Pictures made smaller by averaging areas, as OpenCV's INTER_AREA does, which sd-scripts shrinks images with.

Every pixel of the result is the mean of what lies below it, pixels at the border counting by the part that does. The
weights are a product of one table for rows and one for columns. Numbers and their order are those of
modules/imgproc/src/resize.cpp (`computeResizeAreaTab`, `ResizeArea_Invoker`): F32, rounded to even at the end, and an
overlap of less than a thousandth of a pixel is none. Where four whole pixels become one, halves are rounded up there.

Shape letters: H and W the picture's height and width, C its channels, N pixels of a side of the result, K the most
pixels that lie below one of them.
"""

from __future__ import annotations

import math

import numpy as np

_LEAST_OVERLAP = 1e-3


def shrunk(pixels_HWC: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """8-bit pixels [H, W, C] at another size (width, height), of which no side is larger."""
    height, width = pixels_HWC.shape[:2]
    if size[0] > width or size[1] > height:
        raise ValueError(f"{width}x{height} pixels do not shrink to {size[0]}x{size[1]}")
    if width % size[0] == 0 and height % size[1] == 0:
        return _whole_means(pixels_HWC, size)
    narrow_HNC = _averaged(pixels_HWC.transpose(1, 0, 2), size[0]).transpose(1, 0, 2)
    return np.rint(_averaged(narrow_HNC, size[1])).clip(0, 255).astype(np.uint8)


def _whole_means(pixels_HWC: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Where only whole pixels lie below each pixel: their sum is exact."""
    across, down = pixels_HWC.shape[1] // size[0], pixels_HWC.shape[0] // size[1]
    sums = pixels_HWC.reshape(size[1], down, size[0], across, -1).sum(axis=(1, 3), dtype=np.int64)
    if across == down == 2:
        return ((sums + 2) >> 2).astype(np.uint8)
    return np.rint(sums.astype(np.float32) * np.float32(1 / (across * down))).astype(np.uint8)


def _averaged(rows: np.ndarray, count: int) -> np.ndarray:
    """So many rows in place of those there are, F32."""
    places_KN, weights_KN = overlaps(len(rows), count)
    averaged = np.zeros((count, *rows.shape[1:]), dtype=np.float32)
    for places_N, weights_N in zip(places_KN, weights_KN, strict=True):
        averaged += rows[places_N] * weights_N.reshape(-1, 1, 1)
    return averaged


def overlaps(length: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of `length` pixels lie below each of `count` pixels, and how much each counts: places [K, N], F32 [K, N].
    Where there are fewer than K, the others count nothing."""
    scale = length / count
    tables: list[list[tuple[int, float]]] = []
    for place in range(count):
        start, end = place * scale, (place + 1) * scale
        width = min(scale, length - start)
        first, last = math.ceil(start), min(math.floor(end), length - 1)
        first = min(first, last)
        table = [(pixel, 1 / width) for pixel in range(first, last)]
        if first - start > _LEAST_OVERLAP:
            table.insert(0, (first - 1, (first - start) / width))
        if end - last > _LEAST_OVERLAP:
            table.append((last, min(end - last, 1.0, width) / width))
        tables.append(table)
    most = max(map(len, tables))
    padded = [table + [(0, 0.0)] * (most - len(table)) for table in tables]
    places_NK, weights_NK = np.moveaxis(np.array(padded, dtype=np.float64), -1, 0)
    return places_NK.T.astype(np.intp), weights_NK.T.astype(np.float32)
