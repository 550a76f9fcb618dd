"""Image files to tensors, exactly as the manifest planned: turned, resized, cropped, mirrored.

* The orientation (EXIF's, or XMP's where EXIF is silent) is applied first; sizes everywhere are those after it.
* Transparent pixels show white. 16-bit greys keep their upper 8 bits, CMYK and palettes become RGB, and of an
  animation only the first frame counts.
* Resizing is Pillow's Lanczos in both directions: its kernel widens when it shrinks, so that nothing aliases.
* `Reading` says where a program wants one of these otherwise.
* A file that cannot be read whole is a `BadImage`, never a half-grey picture.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Literal, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lora_worker.area_filter import shrunk

T = TypeVar("T")

Size = tuple[int, int]
"""Width, height in pixels."""

Color = tuple[int, int, int]
"""Red, green, blue from 0 to 255."""

# Formats that hold photographs and drawings. Others (PostScript runs a program) are not even tried.
# "JPEG" includes the multi-picture files of some phones.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")

# What Pillow's decoders raise for damaged files.
_DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class BadImage(Exception):
    """One file that cannot be used. The text says why, without the path."""


@dataclass(frozen=True)
class Framing:
    """How an image becomes a bucket: resized whole, then cut from `crop` (left, top), then mirrored."""

    resized: Size
    crop: tuple[int, int]
    bucket: Size
    flip: bool = False


@dataclass(frozen=True)
class Reading:
    """What becomes of a file's pixels. `background` shows through transparent ones; without it alpha is thrown away.
    With the filter `area`, pictures of which no side grows are averaged, and others are scaled by Lanczos."""

    upright: bool = True
    background: Color | None = (255, 255, 255)
    resize_filter: Literal["lanczos", "area"] = "lanczos"


_USUAL = Reading()


def load_image(path: str | PathLike[str], framing: Framing, reading: Reading = _USUAL) -> Tensor:
    """Pixels [3, bucket height, bucket width] from -1 to 1, F32. Raises `BadImage`."""
    image = open_rgb(path, reading)
    _check_framing(image.size, framing)
    return to_tensor(framed(image, framing, reading))


def framed(image: Image.Image, framing: Framing, reading: Reading) -> Image.Image:
    """Scaled, cropped and mirrored: a picture of the bucket's size."""
    if image.size != framing.resized:
        image = _resized(image, framing.resized, reading)
    left, top = framing.crop
    image = image.crop((left, top, left + framing.bucket[0], top + framing.bucket[1]))
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if framing.flip else image


def _resized(image: Image.Image, size: Size, reading: Reading) -> Image.Image:
    grows = size[0] > image.size[0] or size[1] > image.size[1]
    if reading.resize_filter == "lanczos" or grows:
        return image.resize(size, Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    return Image.fromarray(shrunk(pixels.reshape(*pixels.shape[:2], -1), size).reshape(*size[::-1], *pixels.shape[2:]))


def to_tensor(image: Image.Image) -> Tensor:
    """RGB pixels [3, H, W] from -1 to 1, F32."""
    pixels_HWC = torch.from_numpy(np.array(image, dtype=np.uint8, copy=True))
    return pixels_HWC.permute(2, 0, 1).float().div_(127.5).sub_(1.0).contiguous()


def open_rgb(path: str | PathLike[str], reading: Reading = _USUAL) -> Image.Image:
    """The whole picture, opaque and, unless said otherwise, upright. Raises `BadImage`."""
    return opened(path, lambda image: opaque(turned(image, reading), reading.background))


def opened(path: str | PathLike[str], use: Callable[[Image.Image], T]) -> T:
    """What `use` makes of the picture as it is stored, decoded to the end. Raises `BadImage`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata and large pictures; errors still come
            with Image.open(fspath(path), formats=_FORMATS) as image:
                image.load()
                return use(image)
    except FileNotFoundError:
        raise BadImage("the file is not there") from None
    except _DECODING_ERRORS as error:
        raise BadImage(_reason(error)) from error


def _reason(error: BaseException) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "the file is empty or no image that can be read"
    if isinstance(error, Image.DecompressionBombError):
        return "the image has too many pixels"
    return f"the image is damaged or incomplete ({error})"


def turned(image: Image.Image, reading: Reading) -> Image.Image:
    """Turned as the orientation says. Unreadable EXIF counts as none: the pixels are still whole."""
    if not reading.upright:
        return image
    try:
        orientation = image.getexif().get(0x0112, 1)
    except _DECODING_ERRORS:
        return image
    if orientation in (None, 1):
        return image
    method = _TURNS.get(orientation)
    return image if method is None else image.transpose(method)


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def opaque(image: Image.Image, background: Color | None = (255, 255, 255)) -> Image.Image:
    """RGB of 8 bits, on the background where the picture is transparent; without one, what is stored there."""
    if image.mode.startswith("I;16"):
        # Pillow clips 16-bit greys to white when it converts them.
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        grey = np.asarray(image).astype(np.float64)
        scale = 256 if grey.max(initial=0) > 255 else 1
        return Image.fromarray(np.clip(grey / scale, 0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data and background is not None:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (*background, 255)), rgba).convert("RGB")
    return image.convert("RGB")


def _check_framing(size: Size, framing: Framing) -> None:
    """The manifest read the size from the file's header. Both must have seen the same picture."""
    if not has_shape(size, framing.resized):
        raise BadImage(
            f"the image is {size[0]}x{size[1]}, which does not fit the {framing.resized[0]}x{framing.resized[1]} "
            "that was planned; it was changed meanwhile, or its header gives another size"
        )
    for start, length, resized in zip(framing.crop, framing.bucket, framing.resized, strict=True):
        if start < 0 or start + length > resized:
            raise BadImage(f"the crop at {framing.crop} does not fit a picture of {framing.resized}")


def has_shape(size: Size, wanted: Size) -> bool:
    """Whether a picture of one size can be scaled to the other, up to a pixel of either: sizes are whole numbers.

    Both sides of the wanted one were rounded when it was scaled itself, so there is half a pixel of each besides.
    """
    (width, height), (wanted_width, wanted_height) = size, wanted
    across, down = wanted_width / width, wanted_height / height
    ratio = wanted_height / wanted_width
    off_down, off_across = abs(height * across - wanted_height), abs(width * down - wanted_width)
    return off_down <= max(1, across) + (1 + ratio) / 2 or off_across <= max(1, down) + (1 + 1 / ratio) / 2
