"""Images to VAE latents: the mean and log-variance of each, so that training can draw from them anew at every visit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from lora_worker.devices import torch_device
from lora_worker.errors import FileProblem, WorkerError, bad_input, file_problem
from lora_worker.folder_checkpoint import parse_base
from lora_worker.images import BadImage, Framing, Reading, load_image
from lora_worker.job import Job
from lora_worker.masks import load_alpha, load_mask
from lora_worker.models import load_vae
from lora_worker.open_base import BaseFiles
from lora_worker.protocol import Fields, ProtocolError
from lora_worker.safetensors_file import write_safetensors


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
    problems: list[FileProblem] = []
    damaged: set[str] = set()
    overflown = 0
    for done, item in enumerate(work.items):
        job.check_cancelled()
        job.progress(done, len(work.items), "images")
        path = item.image
        try:
            pixels_CHW = load_image(path, item.framing, work.reading)
            path = item.mask.path if item.mask else path
            masks = _masks(item, work.reading)
        except BadImage as problem:
            if path not in damaged:  # its mirrored twin fails the same way
                problems.append(file_problem(path, str(problem)))
            damaged.add(path)
            continue
        moments = encode(vae, pixels_CHW)
        if not all(torch.isfinite(tensor).all() for tensor in moments.values()):
            overflown += 1
            problems.append(file_problem(item.image, "the VAE made something of it that is not a number"))
            continue
        write_safetensors(item.output, {**moments, **masks})
        job.artifact(item.name, item.output)
    job.progress(len(work.items), len(work.items), "images")
    if problems:
        raise _failure(problems, only_overflown=overflown == len(problems))
    return {}


def _masks(item: Item, reading: Reading) -> dict[str, Tensor]:
    """`mask`, F32 [H / 8, W / 8], where there is one. Raises `BadImage`."""
    if item.mask is None:
        return {}
    load = load_alpha if item.mask.is_alpha else load_mask
    return {"mask": load(item.mask.path, item.framing, reading)}


@torch.no_grad()
def encode(vae: AutoencoderKL, pixels_CHW: Tensor) -> dict[str, Tensor]:
    """`mean` and `logvar` of the posterior, unscaled, F32, [4, H / 8, W / 8]."""
    posterior = vae.encode(pixels_CHW[None].to(vae.device, vae.dtype)).latent_dist
    return {"mean": posterior.mean[0].float().cpu(), "logvar": posterior.logvar[0].float().cpu()}


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
