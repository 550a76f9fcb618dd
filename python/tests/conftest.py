"""Shared by all tests: the small toy checkpoint, written once, and what is loaded from it."""

from __future__ import annotations

import os

# Read when torch is imported: spinning threads slow small steps down many times beside other work.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from learning_lab import DrawingBase

    from lora_worker.models import Models

# The libraries of the models take seconds to import, so only the fixtures that need them do.


@pytest.fixture(scope="session")
def toy_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from lora_worker.toy.checkpoint import write_toy_checkpoint

    path = tmp_path_factory.mktemp("toy") / "toy.safetensors"
    write_toy_checkpoint(path, "test")
    return path


@pytest.fixture(scope="session")
def toy_models(toy_checkpoint: Path) -> Models:
    """Shared: what a test attaches, it removes."""
    import torch

    from lora_worker.models import load_models

    return load_models(toy_checkpoint, device="cpu", dtype=torch.float32)


@pytest.fixture(scope="session")
def toy_vae(toy_checkpoint: Path) -> AutoencoderKL:
    import torch

    from lora_worker.models import load_vae

    return load_vae(toy_checkpoint, device="cpu", dtype=torch.float32)


@pytest.fixture(scope="session")
def drawing_base(tmp_path_factory: pytest.TempPathFactory) -> DrawingBase:
    """Of the examples; shared as `toy_models` are."""
    from learning_lab import DrawingBase

    return DrawingBase(tmp_path_factory.mktemp("drawing"))
