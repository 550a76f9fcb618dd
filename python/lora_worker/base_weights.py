"""The weight of a checkpoint that a LoRA module adapts, found by the module's name.

Works on the names that are in the file, so a checkpoint that lacks some parts still gives the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lora_worker.architecture import UNET_PREFIX
from lora_worker.errors import non_finite
from lora_worker.naming import Placement, placements
from lora_worker.safetensors_file import SafetensorsReader


@dataclass(frozen=True)
class BaseWeight:
    """A tensor of the checkpoint; `third` says which part of its rows, where q, k and v are stored as one."""

    key: str
    third: int | None = None
    transposed: bool = False


def find_base_weights(reader: SafetensorsReader) -> dict[str, BaseWeight]:
    """LoRA module name to weight. UNet modules have two names: trainers use the checkpoint's or diffusers' path."""
    found: dict[str, BaseWeight] = {}
    for key, entry in reader.header.tensors.items():
        if len(entry.shape) < 2:
            continue
        for placement in placements(key) or ():
            weight = BaseWeight(key, placement.part, placement.change == "transpose")
            found.update((name, weight) for name in _lora_names(key, placement))
    return found


def _lora_names(key: str, placement: Placement) -> Iterator[str]:
    module, _, kind = placement.name.rpartition(".")
    if kind != "weight" or placement.component == "vae":
        return
    yield f"lora_{placement.component}_{module.replace('.', '_')}"
    if placement.component == "unet":
        yield f"lora_unet_{key.removeprefix(UNET_PREFIX).removesuffix('.weight').replace('.', '_')}"


def read_base_weight(reader: SafetensorsReader, weight: BaseWeight) -> Tensor:
    """The weight as an O x I matrix in F32, on the CPU. Only its own rows are read."""
    w_OI = reader.rows(weight.key, *_rows(reader, weight)).float().flatten(1)
    if not torch.isfinite(w_OI).all():
        raise non_finite(
            f'"{weight.key}" in "{reader.path}" has values that are not finite numbers.',
            hint="The checkpoint is damaged, or the merge that made it overflowed; use another copy of it.",
        )
    return w_OI.T.contiguous() if weight.transposed else w_OI


def frobenius_norm(reader: SafetensorsReader, weight: BaseWeight) -> float:
    """The root of the sum of squares, in one pass over the file, piece by piece.

    A checkpoint has billions of numbers, and writing each to memory once more as a single takes longer than all else.
    Adding the pieces in double precision also keeps digits that one long sum of singles loses.
    """
    square = 0.0
    for piece in reader.pieces(weight.key, *_rows(reader, weight)):
        numbers = piece.float()
        square += float(torch.dot(numbers, numbers))
    # One number that is not finite shows in the sum; so do squares beyond a single's range, which are no damage.
    return math.sqrt(square) if math.isfinite(square) else float(read_base_weight(reader, weight).double().norm())


def _rows(reader: SafetensorsReader, weight: BaseWeight) -> tuple[int, int]:
    rows = reader.header.tensors[weight.key].shape[0]
    if weight.third is None:
        return 0, rows
    return weight.third * (rows // 3), (weight.third + 1) * (rows // 3)
