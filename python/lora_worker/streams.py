"""Random streams that are looked up, not advanced.

Every random decision of a training has an address: the seed, the epoch, the image and what the number is for. The
generator of an address is made when it is needed, so no draw depends on how many draws came before it. That is why
worker counts, micro-batch sizes and resumes change nothing, and why no generator state is ever saved.

torch's CPU generator takes 32 bits of a seed, so among some 100,000 addresses a few pairs share their numbers. The
two sides of a pair belong to different images, epochs or purposes, which makes that harmless.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

_VERSION = "lorac streams 1"


@dataclass(frozen=True)
class Visit:
    """One time that an image is trained on.

    `digest` and `index` (0 for the first of equal images) say which image; no name or path does, so renaming and
    reordering files changes no number. `repeat` counts the image's visits within the epoch, from 0.
    """

    epoch: int
    digest: str
    index: int
    repeat: int


def visit_stream(seed: int, visit: Visit, purpose: str) -> Generator:
    """The generator of one decision about one visit, such as its "timestep"."""
    return _stream("visit", seed, visit.epoch, visit.digest, visit.index, visit.repeat, purpose)


def held_out_stream(visit: Visit, purpose: str) -> Generator:
    """The generator of one decision about an image that is only measured. It does not depend on the training's seed."""
    return _stream("held out", visit.digest, visit.index, visit.repeat, purpose)


def epoch_stream(seed: int, epoch: int, purpose: str) -> Generator:
    """The generator of one decision about an epoch: its "order"."""
    return _stream("epoch", seed, epoch, purpose)


def module_stream(seed: int, name: str, purpose: str) -> Generator:
    """The generator of one decision about a LoRA module: its initial "down"."""
    return _stream("module", seed, name, purpose)


def flips(generator: Generator) -> bool:
    """True half of the time."""
    return torch.rand((), generator=generator).item() < 0.5


def uniform_integer(generator: Generator, end: int) -> int:
    """From 0 up to, not including, `end`."""
    return int(torch.randint(end, (), generator=generator).item())


def permutation(generator: Generator, count: int) -> Tensor:
    """The numbers 0 … count − 1 in random order, I64 [count]."""
    return torch.randperm(count, generator=generator)


def _stream(*address: str | int) -> Generator:
    # repr keeps the parts apart: no two addresses give one text.
    text = repr((_VERSION, *address))
    digest = hashlib.sha256(text.encode()).digest()
    return Generator(device="cpu").manual_seed(int.from_bytes(digest[:4], "little"))
