"""Finished pictures: read, written, and compared by the values that a screen would show."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike, fspath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from lora_worker.errors import bad_input
from lora_worker.whole_file import whole_file

# Far above every picture of ours, and far below what would exhaust the memory.
_MAX_PIXELS = 2**28


def save_png(picture: Image.Image, path: str | PathLike[str]) -> None:
    """The bytes follow from the pixels alone."""
    with whole_file(path) as file:
        picture.save(file, format="PNG", compress_level=6)


def read_picture(path: str | PathLike[str]) -> Image.Image:
    """An RGB picture, wholly read. Raises `bad-input` for what is no picture, or one that ends too early."""
    with _opened(path) as file:
        return file.convert("RGB")


def picture_size(path: str | PathLike[str]) -> tuple[int, int]:
    """Width and height, without reading more than the head of the file."""
    with _opened(path) as file:
        return file.size


@contextmanager
def _opened(path: str | PathLike[str]) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as file:
            if file.width * file.height > _MAX_PIXELS:
                raise bad_input(f'"{fspath(path)}" has {file.width}x{file.height} pixels, which is too many.')
            yield file
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError):
        raise bad_input(f'"{fspath(path)}" is not a picture that can be read.') from None
    except OSError as error:
        if error.filename is not None:  # the file itself: missing, a folder, not readable
            raise
        raise bad_input(f'"{fspath(path)}" cannot be read to its end: {error}.') from None


def difference(first: Image.Image, second: Image.Image) -> NDArray[np.float32]:
    """How far each pixel is from the other's: root mean square over its channels, [height, width], from 0 to 1."""
    sums_HW = _squares(first, second).sum(axis=2)
    return (np.sqrt(sums_HW / 3) / 255).astype(np.float32)


def distance(first: Image.Image, second: Image.Image) -> float:
    """Root mean square of the differences of all sRGB values (0 to 255), over 255. Pictures of one size.

    Counted in whole numbers, so that the result does not depend on the order in which a machine adds.
    """
    squares_HWC = _squares(first, second)
    return math.sqrt(int(squares_HWC.sum(dtype=np.int64)) / squares_HWC.size) / 255


def same_size(first: Image.Image, first_path: str, second: Image.Image, second_path: str) -> None:
    """Raises `bad-input` unless it is so."""
    if first.size != second.size:
        raise bad_input(
            f'"{first_path}" is {first.width}x{first.height} and "{second_path}" is {second.width}x{second.height} '
            "pixels; only pictures of one size can be compared."
        )


def _squares(first: Image.Image, second: Image.Image) -> NDArray[np.int32]:
    """[height, width, 3]"""
    return np.square(np.asarray(first, dtype=np.int32) - np.asarray(second, dtype=np.int32))
