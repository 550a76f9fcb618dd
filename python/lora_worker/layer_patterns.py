"""Patterns of layers' names as keys beside blocks, as `dims`, `conv_dims` and `block_lr` have them.

A key without capital letters is a pattern of names as LoRA files have them, `*` and `?` standing for letters; all
others are blocks (`lora_worker.blocks`). A pattern goes before blocks. Of several that fit a layer the one that fits
the fewest layers counts, so the order in which they are written means nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from fnmatch import fnmatchcase
from typing import TypeVar

from lora_worker.errors import WorkerError, bad_input

_SHOWN = 3

Number = TypeVar("Number", int, float)


def is_pattern(key: str) -> bool:
    return key == key.lower()


def by_layer(numbers: Mapping[str, Number], names: Sequence[str], *, setting: str) -> dict[str, Number]:
    """`numbers` with the names of layers in place of the patterns that fit them. `names` are all that there are.

    Raises `bad-input` for a pattern that fits none, and for two that fit equally many, a layer in common, and differ.
    """
    found: dict[str, Number] = {key: number for key, number in numbers.items() if not is_pattern(key)}
    decided: dict[str, tuple[int, str]] = {}
    for pattern in sorted(filter(is_pattern, numbers)):
        fitting = [name for name in names if fnmatchcase(name, pattern)]
        if not fitting:
            raise fits_nothing(pattern, names, setting=setting)
        for name in fitting:
            width, other = decided.get(name, (len(names) + 1, pattern))
            if len(fitting) == width and numbers[other] != numbers[pattern]:
                raise bad_input(
                    f'"{other}" and "{pattern}" in "{setting}" fit {width} layers each, and both fit "{name}".',
                    hint="Of several patterns the one that fits fewer layers counts: make one of them narrower.",
                )
            if len(fitting) < width:
                decided[name] = (len(fitting), pattern)
                found[name] = numbers[pattern]
    return found


def fits_nothing(pattern: str, names: Sequence[str], *, setting: str, among: str = "") -> WorkerError:
    """`among`: what the names are of, where they are not all."""
    literal = pattern.replace("*", "").replace("?", "")

    def likeness(name: str) -> float:
        blocks = SequenceMatcher(None, literal, name, autojunk=False).get_matching_blocks()
        # Few long pieces are nearer than many short ones.
        return sum(block.size**2 for block in blocks)

    near = sorted(names, key=lambda name: (-likeness(name), len(name), name))[:_SHOWN]
    similar = ", ".join(f'"{name}"' for name in near)
    return bad_input(
        f'The pattern "{pattern}" in "{setting}" fits no layer{among}. Similar names are {similar}.',
        hint='A pattern is a name as LoRA files have it, with * for any letters: "lora_unet_output_blocks_1_*".',
    )
