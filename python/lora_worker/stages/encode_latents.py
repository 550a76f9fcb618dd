"""Images to VAE latents: the mean and log-variance of each, so that training can draw from them anew at every visit.

While some are encoded, the next are read and those before are written, on other threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from math import prod
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from lora_worker.background_writer import BackgroundWriter
from lora_worker.batches import micro_batches
from lora_worker.devices import thread_count, torch_device
from lora_worker.errors import FileProblem, WorkerError, bad_input, file_problem
from lora_worker.folder_checkpoint import parse_base
from lora_worker.images import BadImage, Framing, Reading, load_image
from lora_worker.job import Job
from lora_worker.masks import load_alpha, load_mask
from lora_worker.models import load_vae
from lora_worker.open_base import BaseFiles
from lora_worker.protocol import Fields, ProtocolError
from lora_worker.safetensors_file import write_safetensors
from lora_worker.snapshot import size_of
from lora_worker.vae_batches import BatchEncoder

_MOST_READERS = 8
_MOST_WAITING_BYTES = 2**28


@dataclass(frozen=True)
class Item:
    name: str
    image: str
    mask: Mask | None
    framing: Framing
    output: str


@dataclass(frozen=True)
class Mask:
    """The picture that says how much each place counts, or the alpha of the image, whose path that then is."""

    path: str
    is_alpha: bool


@dataclass(frozen=True)
class EncodeLatents:
    checkpoint: BaseFiles
    dtype: torch.dtype
    reading: Reading
    items: tuple[Item, ...]


def parse(fields: dict[str, Any]) -> EncodeLatents:
    return EncodeLatents(
        checkpoint=parse_base(Fields(fields, "work")),
        dtype={"fp32": torch.float32, "bf16": torch.bfloat16}[fields["vae_precision"]],
        reading=_parse_reading(Fields(dict(fields), "work")),
        items=tuple(_parse_item(item) for item in fields["items"]),
    )


def _parse_reading(work: Fields) -> Reading:
    """Raises ProtocolError."""
    background = work.whole_list("transparency") if work.any("transparency") is not None else None
    if background is not None and not (len(background) == 3 and all(0 <= channel <= 255 for channel in background)):
        raise ProtocolError(f'"{work.where}.transparency" must be three numbers from 0 to 255, and is {background}')
    return Reading(
        upright=work.one_of("exif", ("apply", "ignore")) == "apply",
        background=None if background is None else (background[0], background[1], background[2]),
        resize_filter=work.one_of("resize_filter", ("lanczos", "area")),
    )


def _parse_item(fields: dict[str, Any]) -> Item:
    framing = Framing(
        resized=_pair(fields["resized"]),
        crop=_pair(fields["crop"]),
        bucket=_pair(fields["bucket"]),
        flip=bool(fields["flip"]),
    )
    item = Fields(fields, "work.items")
    image = item.text("image")
    return Item(
        name=item.text("name"), image=image, mask=_parse_mask(item, image), framing=framing, output=item.text("output")
    )


def _parse_mask(item: Fields, image: str) -> Mask | None:
    """Raises ProtocolError."""
    if "mask" not in item.raw:
        return None
    mask = item.record("mask")
    if mask.one_of("kind", ("alpha", "file")) == "alpha":
        return Mask(image, is_alpha=True)
    return Mask(mask.text("path"), is_alpha=False)


def _pair(numbers: list[int]) -> tuple[int, int]:
    first, second = numbers
    return int(first), int(second)


def run(work: EncodeLatents, job: Job) -> dict[str, str]:
    """Encodes every image that can be encoded, announcing each, and only then complains about all the others."""
    vae = load_vae(work.checkpoint, device=torch_device(), dtype=work.dtype)
    encoder = BatchEncoder(vae, largest_pixels=max((prod(item.framing.bucket) for item in work.items), default=1))
    order = _in_batches(work.items, encoder.size)
    problems: dict[int, FileProblem] = {}
    damaged: set[str] = set()
    overflown = 0
    with (
        BackgroundWriter(_MOST_WAITING_BYTES) as writer,
        ThreadPoolExecutor(_readers(vae)) as pool,
        closing(_read_ahead(pool, work.reading, [work.items[place] for place in order], 2 * encoder.size)) as pictures,
    ):
        for start, end in _of_one_size([work.items[place] for place in order], encoder.size):
            job.check_cancelled()
            job.progress(start, len(order), "images")
            good: list[tuple[int, _Picture]] = []
            for place, picture in zip(order[start:end], islice(pictures, end - start), strict=True):
                if isinstance(picture, _Picture):
                    good.append((place, picture))
                elif picture.path not in damaged:  # its mirrored twin fails the same way
                    damaged.add(picture.path)
                    problems[place] = picture
            found = encoder.moments([picture.pixels_CHW for _, picture in good])
            for (place, picture), moments in zip(good, found, strict=True):
                item = work.items[place]
                if all(torch.isfinite(tensor).all() for tensor in moments.values()):
                    tensors = {**moments, **picture.masks}
                    writer.put(partial(_write, item, tensors, job), size_of(tensors))
                else:
                    overflown += 1
                    problems[place] = file_problem(item.image, "the VAE made something of it that is not a number")
    job.progress(len(work.items), len(work.items), "images")
    if problems:
        told = [problems[place] for place in sorted(problems)]
        raise _failure(told, only_overflown=overflown == len(told))
    return {}


@dataclass(frozen=True)
class _Picture:
    pixels_CHW: Tensor
    masks: Mapping[str, Tensor]


def _in_batches(items: Sequence[Item], size: int) -> list[int]:
    """The places of the items in the order in which they are encoded: those of one size together, where several are
    encoded at once."""
    if size == 1:
        return list(range(len(items)))
    batches = micro_batches(range(len(items)), [item.framing.bucket for item in items], size)
    return [place for batch in batches for place in batch]


def _of_one_size(items: Sequence[Item], size: int) -> Iterator[tuple[int, int]]:
    """Where each batch starts and ends."""
    start = 0
    for end in range(1, len(items) + 1):
        if end == len(items) or end - start == size or items[end].framing.bucket != items[start].framing.bucket:
            yield start, end
            start = end


def _readers(vae: AutoencoderKL) -> int:
    """How many threads read pictures. One keeps a CPU's encoder busy."""
    return 1 if vae.device.type == "cpu" else min(_MOST_READERS, thread_count())


def _read_ahead(
    pool: ThreadPoolExecutor, reading: Reading, items: Iterable[Item], count: int
) -> Generator[_Picture | FileProblem, None, None]:
    """What is read of each item, in their order. So many that follow are read meanwhile."""
    waiting: deque[Future[_Picture | FileProblem]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(_read, item, reading))
            if len(waiting) > count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _read(item: Item, reading: Reading) -> _Picture | FileProblem:
    path = item.image
    try:
        pixels_CHW = load_image(path, item.framing, reading)
        path = item.mask.path if item.mask else path
        return _Picture(pixels_CHW, _masks(item, reading))
    except BadImage as problem:
        return file_problem(path, str(problem))


def _write(item: Item, tensors: Mapping[str, Tensor], job: Job) -> None:
    write_safetensors(item.output, tensors)
    job.artifact(item.name, item.output)


def _masks(item: Item, reading: Reading) -> dict[str, Tensor]:
    """`mask`, F32 [H / 8, W / 8], where there is one. Raises `BadImage`."""
    if item.mask is None:
        return {}
    load = load_alpha if item.mask.is_alpha else load_mask
    return {"mask": load(item.mask.path, item.framing, reading)}


def _failure(problems: list[FileProblem], *, only_overflown: bool) -> WorkerError:
    count = "1 image" if len(problems) == 1 else f"{len(problems)} images"
    if only_overflown:
        return WorkerError(
            "non-finite",
            f"{count} could not be encoded: the VAE's numbers overflow.",
            hint="Set vae_precision = fp32; if it is already, the checkpoint's VAE is broken.",
            problems=problems,
        )
    return bad_input(
        f"{count} could not be encoded.",
        hint="Repair or remove what is listed; the others are done.",
        problems=problems,
    )
