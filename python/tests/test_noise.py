"""Pyramid noise against what sd-scripts computed, and the properties that training relies on."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

from lora_worker.noise import PER_IMAGE, WHOLE_BATCH, normal_from, pyramid_noise, uniform_from
from lora_worker.safetensors_file import read_safetensors

GOLDEN = Path(__file__).parents[2] / "test" / "fixtures" / "golden"
CASES = json.loads((GOLDEN / "multires-noise.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: "x".join(map(str, case["shape"])))
def test_whole_batch_noise_equals_sd_scripts(case):
    arrays, _ = read_safetensors(GOLDEN / "multires-noise.safetensors")
    python = random.Random(case["python_random_seed"])
    generator = torch.Generator().manual_seed(case["torch_seed_before_call"])
    noise = pyramid_noise(
        arrays[f"{case['case']}.in"],
        iterations=case["iterations"],
        discount=case["discount"],
        uniform=python.random,
        normal=normal_from(generator),
        std_axes=WHOLE_BATCH,
    )
    assert (noise - arrays[f"{case['case']}.out"]).abs().max() <= 1e-6


def test_the_input_is_left_as_it_was():
    noise = torch.ones(1, 4, 8, 8)
    draw(noise, seed=0)
    assert torch.equal(noise, torch.ones(1, 4, 8, 8))


def test_every_image_gets_a_standard_deviation_of_one():
    noise = draw(torch.randn(3, 4, 16, 24, generator=torch.Generator().manual_seed(5)) * 3, seed=1)
    torch.testing.assert_close(noise.std(dim=(1, 2, 3)), torch.ones(3))


def test_it_has_as_much_of_the_coarse_as_sd_scripts_has():
    white = torch.Generator().manual_seed(2)
    pooled = [
        torch.nn.functional.avg_pool2d(draw(torch.randn(1, 4, 128, 128, generator=white), seed=seed), 8).std()
        for seed in range(60)
    ]
    # White noise pools to 0.125. The mean over 60 draws stays within 0.02 of the mean over very many.
    assert torch.stack(pooled).mean().item() == pytest.approx(0.1687, abs=0.02)


def test_no_levels_leave_only_the_scale():
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(draw(noise, seed=0, iterations=0), noise / noise.std())


def draw(noise, *, seed, iterations=12):
    generator = torch.Generator().manual_seed(seed)
    return pyramid_noise(
        noise,
        iterations=iterations,
        discount=0.4,
        uniform=uniform_from(generator),
        normal=normal_from(generator),
        std_axes=PER_IMAGE,
    )
