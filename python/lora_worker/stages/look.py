"""What the pixels of training images tell: whether all of them can be read, how much is transparent, and a small
fingerprint in which pictures that look alike are alike."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image

from lora_worker.images import BadImage, opaque, opened
from lora_worker.job import Job
from lora_worker.protocol import Fields
from lora_worker.whole_file import write_json

SIDE = 16
"""Rows of a fingerprint, and bits in a row."""

# Grey levels between neighbours that count as an edge. Compression alone makes smaller ones.
_EDGE = 2
# Deviation of the grey values below which a picture is of one color.
_PLAIN = 2.0
# The grey value up to which compression may lift black.
_BLACK = 8


@dataclass(frozen=True)
class Item:
    name: str
    image: str


@dataclass(frozen=True)
class Look:
    items: tuple[Item, ...]
    output: str


def parse(fields: Mapping[str, Any]) -> Look:
    work = Fields(dict(fields), "work")
    items = work.records("items", lambda item: Item(name=item.text("name"), image=item.text("image")))
    return Look(items=items, output=work.text("output"))


def run(work: Look, job: Job) -> dict[str, str]:
    looks: dict[str, dict[str, Any]] = {}
    # Pillow decodes outside of Python's lock.
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for name, look in _looks(work.items, pool):
            job.check_cancelled()
            job.progress(len(looks), len(work.items), "images")
            looks[name] = look
    job.progress(len(work.items), len(work.items), "images")
    write_json(work.output, looks)
    return {"looks": work.output}


def _looks(items: tuple[Item, ...], pool: ThreadPoolExecutor) -> Iterator[tuple[str, dict[str, Any]]]:
    """In order, a few at a time: decoded pictures are large, and a cancel should not wait for all of them."""
    waiting = iter(items)
    while batch := list(islice(waiting, 16)):
        yield from zip((item.name for item in batch), pool.map(look_at, (item.image for item in batch)), strict=True)


def look_at(path: str) -> dict[str, Any]:
    """`transparent`: the share of pixels that are not fully opaque. `hash`: `picture_hash`. `plain`: it is of one
    color. `dark`: as a mask it leaves nothing. Of a file that cannot be read, `problem` instead."""
    try:
        return opened(path, _look)
    except BadImage as problem:
        return {"problem": str(problem)}


def _look(image: Image.Image) -> dict[str, Any]:
    transparent = 0.0
    if image.has_transparency_data:
        alpha = np.asarray(image.convert("RGBA").getchannel("A"))
        transparent = float((alpha < 255).mean())
    grey = opaque(image).convert("L")
    on_black = opaque(image, (0, 0, 0)).convert("L") if image.has_transparency_data else grey
    small = grey.resize((SIDE + 1, SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    values = np.asarray(small, dtype=np.int16)
    return {
        "transparent": transparent,
        "hash": picture_hash(values),
        "plain": bool(values.std() < _PLAIN),
        "dark": on_black.getextrema()[1] <= _BLACK,
    }


def picture_hash(grey: np.ndarray) -> str:
    """Where brightness rises from left to right in a grey picture of 17x16: 256 bits, row by row, in hexadecimal.

    A picture scaled, compressed again or brightened has nearly the same.
    """
    rises = np.diff(grey, axis=1) > _EDGE
    return np.packbits(rises).tobytes().hex()
