"""What the bench asks the stage `train` for is what the stage understands today."""

from dataclasses import replace
from pathlib import Path

import pytest

from lora_worker.bench.options import RECIPE, TOY
from lora_worker.bench.recipe import Drawn, buckets_of, request
from lora_worker.protocol import ProtocolError
from lora_worker.random_base import SDXL, RandomBase

BASE = RandomBase("SDXL", SDXL, "meta")
IMAGES = [Drawn("a.jpg", "one", (1024, 1024))]


def test_the_recipe_is_the_guides():
    asked = request(RECIPE, BASE, IMAGES, Path("work"))
    assert (asked.until, asked.settings.images_per_step, asked.settings.optimizer.kind) == (80, 48, "SAVEUS")
    assert asked.save_steps == set(range(1, 81))
    assert asked.sample_steps == set(range(10, 81, 10))
    assert [(prompt.steps, prompt.width) for prompt in asked.prompts] == [(30, 1024), (30, 1024)]
    assert asked.checkpoint is BASE
    assert request(replace(RECIPE, sample_every=0), BASE, IMAGES, Path("work")).sample_steps == frozenset()


def test_buckets_have_the_area_that_is_asked_for():
    buckets = buckets_of(replace(RECIPE, buckets=9))
    assert buckets[0] == (1024, 1024)
    assert len(set(buckets)) == 9
    assert all(abs(width * height / 1024**2 - 1) < 0.08 for width, height in buckets)


def test_a_setting_with_a_wrong_value_is_named():
    options = replace(TOY, settings={"gradient_checkpointing": "maybe"})
    with pytest.raises(ProtocolError, match="gradient_checkpointing"):
        request(options, BASE, IMAGES, Path("work"))
