"""The networks that pictures were last made with, kept for the request after.

An ablation asks for pictures a few at a time, since what it looks at next depends on what it saw, and loading SDXL
takes longer than making a picture. Other work needs the memory: the worker forgets the networks before it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from lora_worker.fp8 import Fp8Base
from lora_worker.models import Models, load_models, load_vae
from lora_worker.open_base import BaseFiles, files_of


@dataclass(frozen=True)
class Key:
    """Another file, or the same one with other content, gives other networks."""

    files: tuple[tuple[str, int, int, int], ...]
    """Path, size, time of change in nanoseconds, inode."""
    device: str
    dtype: torch.dtype
    fp8_base: Fp8Base


@dataclass(frozen=True)
class _Kept:
    key: Key | None
    models: Models
    vae: AutoencoderKL


_kept: list[_Kept] = []
"""One, or none."""


@contextmanager
def kept_models(
    base: BaseFiles, *, device: torch.device, dtype: torch.dtype, fp8_base: Fp8Base = "off"
) -> Iterator[tuple[Models, AutoencoderKL]]:
    """The networks of a checkpoint, loaded or still there; the VAE in fp32. Raises `bad-input`.

    Whoever works with them leaves them as they were. After an error nobody knows, so they are forgotten.
    """
    key = _key_of(base, device, dtype, fp8_base)
    found = next((kept for kept in _kept if key is not None and kept.key == key), None)
    forget_models()
    if found is None:
        models = load_models(base, device=device, dtype=dtype, fp8_base=fp8_base)
        found = _Kept(key, models, load_vae(base, device=device, dtype=torch.float32))
    yield found.models, found.vae
    _kept.append(found)


def forget_models() -> None:
    _kept.clear()


def _key_of(base: BaseFiles, device: torch.device, dtype: torch.dtype, fp8_base: Fp8Base) -> Key | None:
    """None where a file is not there: whoever loads it says so in words."""
    try:
        files = tuple(_facts(path) for path in files_of(base))
    except OSError:
        return None
    return Key(files, str(device), dtype, fp8_base)


def _facts(path: str) -> tuple[str, int, int, int]:
    status = os.stat(path)
    return os.path.abspath(path), status.st_size, status.st_mtime_ns, status.st_ino
