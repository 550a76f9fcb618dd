"""The guide's recipe as the request that a program with all defaults makes of it, on images that a script draws."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lora_worker.bench.options import Options
from lora_worker.images import Framing
from lora_worker.random_base import RandomBase
from lora_worker.toy.pictures import draw
from lora_worker.train_request import Train, parse_train

Size = tuple[int, int]
"""Width, height in pixels."""

# Buckets of 1024² in 64ths of its side, those that photographs fall into most often first.
_BUCKETS = ((16, 16), (13, 19), (19, 13), (14, 18), (18, 14), (12, 21), (21, 12), (15, 17), (17, 15))

# What lorac asks for on behalf of examples/ten-minute; test/runtime/stages/bench-recipe.test.ts holds the two together.
SETTINGS: dict[str, Any] = json.loads(Path(__file__).with_name("recipe.json").read_text(encoding="utf-8"))

# Drawing takes longer than encoding. More files are copies of these, decoded and encoded one by one all the same.
_DIFFERENT = 36

_PROMPTS = ("roundling, solo, red scarf, smile, blue background", "roundling, teal scarf, looking left, yellow star")


@dataclass(frozen=True)
class Drawn:
    """A picture on the disk. It has the size of its bucket already, so nothing is cut off."""

    path: str
    caption: str
    bucket: Size

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.path.encode()).hexdigest()

    def latents(self, *, flip: bool) -> str:
        return f"{self.path}{'-mirrored' if flip else ''}.latents.safetensors"

    def framing(self, *, flip: bool) -> Framing:
        return Framing(resized=self.bucket, crop=(0, 0), bucket=self.bucket, flip=flip)


def buckets_of(options: Options) -> list[Size]:
    """As many as are asked for, all of about the same area."""
    unit = options.resolution / 16
    return [(_to_32(width * unit), _to_32(height * unit)) for width, height in _BUCKETS[: options.buckets]]


def draw_images(options: Options, folder: Path) -> list[Drawn]:
    """Each bucket gets as many as every other, give or take one."""
    buckets = buckets_of(options)
    folder.mkdir(parents=True, exist_ok=True)
    drawn: list[Drawn] = []
    for index in range(options.images):
        path = str(folder / f"{index:04d}.jpg")
        if index < _DIFFERENT:
            bucket = buckets[index % len(buckets)]
            picture = draw(index, bucket)
            picture.image.save(path, quality=92)
            drawn.append(Drawn(path, picture.caption, bucket))
        else:
            like = drawn[index % _DIFFERENT]
            shutil.copyfile(like.path, path)
            drawn.append(replace(like, path=path))
    return drawn


def request(options: Options, base: RandomBase, images: Sequence[Drawn], work: Path) -> Train:
    """What the stage `train` is asked to do. Raises ProtocolError for settings that it does not know."""
    settings = {
        **SETTINGS,
        "steps": options.steps,
        "batch_size": options.batch_size,
        "gradient_accumulation_steps": options.gradient_accumulation_steps,
        "mixed_precision": options.dtype,
        "resolution": [options.resolution, options.resolution],
        **options.settings,
    }
    asked = {
        "checkpoint": base.name,
        "work": str(work),
        "images": [_described(image) for image in images],
        "settings": settings,
        "save_steps": _every(options.save_every, options.steps),
        "until": options.steps,
        "held_out": None,
        "samples": {
            "steps": _every(options.sample_every, options.steps),
            "prompts": _prompts(options),
            "labels": list(_PROMPTS),
            "given": [],
        },
        "state_every": {"seconds": 300},
        "events": None,
    }
    return replace(parse_train(asked), checkpoint=base)


def _described(image: Drawn) -> dict[str, Any]:
    return {
        "digest": image.digest,
        "index": 0,
        "latents": image.latents(flip=False),
        "latents_flipped": image.latents(flip=True),
        "caption": image.caption,
        "original": list(image.bucket),
        "resized": list(image.bucket),
        "crop": [0, 0],
        "bucket": list(image.bucket),
        "repeats": 1,
        "regularization": False,
    }


def _prompts(options: Options) -> list[dict[str, Any]]:
    return [
        {
            "prompt": prompt,
            "negative_prompt": "blurry",
            "width": options.resolution,
            "height": options.resolution,
            "seed": seed,
            "steps": options.sample_steps,
            "scale": 7.5,
            "sampler": "euler_a",
        }
        for seed, prompt in enumerate(_PROMPTS)
    ]


def _every(interval: int, steps: int) -> list[int]:
    return list(range(interval, steps + 1, interval)) if interval else []


def _to_32(pixels: float) -> int:
    return max(64, round(pixels / 32) * 32)
