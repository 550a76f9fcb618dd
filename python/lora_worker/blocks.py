"""From the name of a LoRA's module to the block that it belongs to, by the names that programs use.

The same rule as src/runtime/sdxl/blocks.ts has, for the one spelling that reaches the worker: kohya's names of SDXL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

Number = TypeVar("Number", int, float)

_SECTIONS = {"input_blocks": "IN", "middle_block": "MID", "output_blocks": "OUT"}


def block_names(module: str) -> tuple[str, ...]:
    """What names the module, narrowest first: ("OUT01",), ("TE1.3", "TE1"), ("REST",)."""
    text = re.match(r"lora_te([12])_(?:text_model_encoder_layers_(\d+)_)?", module)
    if text:
        encoder = f"TE{text[1]}"
        return (f"{encoder}.{text[2]}", encoder) if text[2] else (encoder,)
    unet = re.match(r"lora_unet_(input_blocks|middle_block|output_blocks)_(\d+)(?:_|$)", module)
    return (f"{_SECTIONS[unet[1]]}{int(unet[2]):02}",) if unet else ("REST",)


def block_weight(module: str, weights: Mapping[str, float] | None) -> float:
    """The weight of the module's block. A block that is not named has 0; without any weights every block has 1."""
    if weights is None:
        return 1.0
    return next((weights[name] for name in block_names(module) if name in weights), 0.0)


def number_of(module: str, numbers: Mapping[str, Number]) -> Number | None:
    """The number of the module itself, else of its block. None where neither is named."""
    return next((numbers[name] for name in (module, *block_names(module)) if name in numbers), None)
