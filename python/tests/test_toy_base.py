"""The base of the examples draws what a prompt says, and its script makes such a base."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lora_worker.architecture import VAE_SCALE, read_architecture
from lora_worker.images import to_tensor
from lora_worker.models import load_models, load_vae
from lora_worker.safetensors_file import read_header
from lora_worker.sampling import SamplePrompt, render
from lora_worker.toy.judge import judge
from lora_worker.toy.pictures import draw

FOLDER = Path(__file__).parents[2] / "examples" / "toy-sdxl"
BASE = FOLDER / "toy-sdxl.safetensors"


def shapes_of(path: Path):
    return {name: entry.shape for name, entry in read_header(path).tensors.items()}


@pytest.fixture(scope="module")
def base():
    how = {"device": "cpu", "dtype": torch.float32}
    return load_models(BASE, **how), load_vae(BASE, **how)


def test_the_base_is_an_sdxl_in_miniature():
    unet = read_architecture(shapes_of(BASE), name="base").unet
    assert (unet.widths, unet.depths) == ((32, 64, 128), (0, 1, 2))
    assert BASE.stat().st_size < 40e6


def test_its_latents_have_the_spread_that_sdxls_scale_expects_and_keep_what_is_to_be_seen(base):
    _, vae = base
    pictures = torch.stack([to_tensor(draw(index, (128, 128)).image) for index in range(4)])
    with torch.no_grad():
        latents = vae.encode(pictures).latent_dist.mean
        again = vae.decode(latents).sample
    assert 0.7 < (latents * VAE_SCALE).std() < 1.3
    assert (again - pictures).abs().mean() < 0.1


@pytest.mark.parametrize(
    ("prompt", "seed", "middle", "background"),
    [
        ("red star, blue background", 8, "red", "blue"),
        ("green cat, solo, yellow scarf, looking right, smile, purple background", 10, "green", "purple"),
    ],
)
def test_it_draws_what_the_prompt_says(base, prompt, seed, middle, background):
    size = {"width": 128, "height": 128}
    picture = render(*base, SamplePrompt(prompt, "", **size, seed=seed, steps=14, scale=5.0))
    seen = judge(picture)
    assert (seen.middle, seen.background) == (middle, background)
    assert seen.off_skin > 90


def test_its_script_writes_a_base_of_the_same_architecture(tmp_path):
    path = tmp_path / "base.safetensors"
    command = [sys.executable, str(FOLDER / "train.py"), str(path), "--share", "0.0001"]
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parents[1] / "python")}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert shapes_of(path) == shapes_of(BASE)
    assert [file.name for file in tmp_path.iterdir()] == ["base.safetensors"]
