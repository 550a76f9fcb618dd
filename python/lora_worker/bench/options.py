"""The command line of the bench, and what stands for what is left out: the guide's recipe on a GPU, a toy on a CPU."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lora_worker.bench import DESCRIPTION, EXAMPLES

DTYPES = {"bf16": "bfloat16", "fp32": "float32"}


@dataclass(frozen=True)
class Options:
    """What is run. `sample_every` 0 renders no pictures, `save_every` 0 saves only the last LoRA."""

    device: str
    size: str
    resolution: int
    dtype: str
    steps: int
    batch_size: int
    gradient_accumulation_steps: int
    images: int
    buckets: int
    save_every: int
    sample_every: int
    sample_steps: int
    settings: Mapping[str, Any]
    work: Path | None = None
    json: Path | None = None
    trace: Path | None = None
    only_counts: bool = False

    @property
    def images_per_step(self) -> int:
        return self.batch_size * self.gradient_accumulation_steps


RECIPE = Options(
    device="cuda",
    size="full",
    resolution=1024,
    dtype="bf16",
    steps=80,
    batch_size=8,
    gradient_accumulation_steps=6,
    images=200,
    buckets=1,
    save_every=1,
    sample_every=10,
    sample_steps=30,
    settings={},
)
"""The guide's, for as many images as it says at most."""

TOY = replace(
    RECIPE,
    device="cpu",
    size="test",
    resolution=128,
    dtype="fp32",
    steps=10,
    batch_size=2,
    gradient_accumulation_steps=2,
    images=8,
    sample_every=5,
    sample_steps=4,
)
"""The same in small: done on two cores in well under two minutes, start included."""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m lora_worker.bench",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = made.add_argument_group("what is trained (left out: the recipe on a GPU, the toy on a CPU)")
    what.add_argument("--recipe", action="store_true", help="the guide's recipe on any device, however long it takes")
    what.add_argument("--toy", action="store_true", help="the toy on any device")
    what.add_argument("--size", choices=("full", "quickstart", "test"), help="SDXL itself, or one of the toys")
    what.add_argument("--resolution", type=_whole, metavar="PIXELS", help="side of the square whose area buckets have")
    what.add_argument("--buckets", type=_whole, metavar="N", help="different shapes of images, up to 9 (1: squares)")
    what.add_argument("--images", type=_whole, metavar="N", help="how many images there are")
    what.add_argument("--steps", type=_whole, metavar="N")
    what.add_argument("--batch-size", type=_whole, metavar="N")
    what.add_argument("--accumulation", type=_whole, metavar="N", help="batches of a step", dest="accumulation")
    what.add_argument("--dtype", choices=tuple(DTYPES), help="mixed_precision")
    outputs = made.add_argument_group("what it makes besides")
    outputs.add_argument("--save-every", type=_count, metavar="N", help="steps between saved LoRAs; 0: only the last")
    outputs.add_argument("--sample-every", type=_count, metavar="N", help="steps between pictures; 0: none")
    outputs.add_argument("--no-samples", action="store_true", help="the same as --sample-every 0")
    outputs.add_argument("--sample-steps", type=_whole, metavar="N", help="passes for a picture")
    how = made.add_argument_group("how it is trained")
    how.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        type=_setting,
        help="a field of the training request's settings, with a value in JSON or a word; may be repeated",
    )
    results = made.add_argument_group("results")
    results.add_argument("--json", type=Path, metavar="FILE", help="all numbers, for programs")
    results.add_argument("--count", action="store_true", help="train nothing, and tell what can be counted")
    results.add_argument("--trace", type=Path, metavar="FILE", help="trace two steps of one batch, for Perfetto")
    results.add_argument(
        "--work", type=Path, metavar="FOLDER", help="keep all files here (left out: removed at the end)"
    )
    return made


def parse(arguments: Sequence[str], device: str) -> Options:
    """`device` is the best that this machine has. Exits with 2 and a sentence when the command line is wrong."""
    made = parser()
    given = made.parse_args(arguments)
    if given.toy and given.recipe:
        made.error("--toy and --recipe cannot both hold")
    is_toy = given.toy or (device == "cpu" and not given.recipe and given.size != "full")
    usual = replace(TOY if is_toy else RECIPE, device=device)
    chosen = {
        "size": given.size,
        "resolution": given.resolution,
        "buckets": given.buckets,
        "images": given.images,
        "steps": given.steps,
        "batch_size": given.batch_size,
        "gradient_accumulation_steps": given.accumulation,
        "dtype": given.dtype,
        "save_every": given.save_every,
        "sample_every": 0 if given.no_samples else given.sample_every,
        "sample_steps": given.sample_steps,
    }
    options = replace(
        usual,
        settings=dict(given.set),
        work=given.work,
        json=given.json,
        trace=given.trace,
        only_counts=given.count,
        **{name: value for name, value in chosen.items() if value is not None},
    )
    if options.resolution % 64:
        made.error(f"--resolution must be a multiple of 64, and is {options.resolution}")
    if options.buckets > 9:
        made.error(f"--buckets must be at most 9, and is {options.buckets}")
    return options


def _whole(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, and is {number}")
    return number


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, and is {number}")
    return number


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f'must be like gradient_checkpointing=on, and is "{text}"')
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
