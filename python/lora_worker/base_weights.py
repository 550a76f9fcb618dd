"""The weights of a base that LoRA modules adapt, found by the modules' names.

A base is one file (a checkpoint, or a UNet alone) or the files of a diffusers folder. Works on the names that are in
the files, so a base that lacks some parts still gives the others. Only headers are read until a weight is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from os import PathLike, path

import torch
from torch import Tensor

from lora_worker.base_names import adapted_by, text_encoder_in
from lora_worker.checkpoint import Checkpoint
from lora_worker.errors import bad_input, non_finite
from lora_worker.safetensors_file import SafetensorsReader


@dataclass(frozen=True)
class BaseWeight:
    """A tensor of a file; `third` says which part of its rows, where q, k and v are stored as one."""

    file: int
    reader: SafetensorsReader
    key: str
    third: int | None
    transposed: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """As a module has it that is adapted: O, I and the kernel."""
        stored = self.reader.header.tensors[self.key].shape
        first, last = self.rows
        return (stored[1], stored[0]) if self.transposed else (last - first, *stored[1:])

    @property
    def rows(self) -> tuple[int, int]:
        rows = self.reader.header.tensors[self.key].shape[0]
        if self.third is None:
            return 0, rows
        return self.third * (rows // 3), (self.third + 1) * (rows // 3)

    @property
    def place(self) -> tuple[int, int, int]:
        """Weights sorted by it are read as they lie on the disk."""
        return self.file, self.reader.header.tensors[self.key].start, self.third or 0


class Base:
    """The files of a base, open. Use it in a `with` block. Raises `bad-input` for a file that is no checkpoint."""

    def __init__(self, paths: Sequence[str | PathLike[str]]) -> None:
        if not paths:
            raise bad_input("A base needs at least one file.")
        with ExitStack() as opened:
            readers = [opened.enter_context(Checkpoint(each)) for each in paths]
            self._files = opened.pop_all()
        self.name = readers[0].path if len(readers) == 1 else path.commonpath([each.path for each in readers])
        self.weights: dict[str, BaseWeight] = {}
        for file, reader in enumerate(readers):
            self.weights.update(_find_weights(file, reader))

    def __enter__(self) -> Base:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def by_place(self, modules: Iterable[str]) -> list[tuple[BaseWeight, list[str]]]:
        """The weights of modules in the order in which they lie on the disk, each once, with the modules it is for."""
        grouped: dict[BaseWeight, list[str]] = {}
        for module in modules:
            if module in self.weights:
                grouped.setdefault(self.weights[module], []).append(module)
        return sorted(grouped.items(), key=lambda item: item[0].place)


def _find_weights(file: int, reader: SafetensorsReader) -> dict[str, BaseWeight]:
    text_encoder = text_encoder_in(reader.path, reader.header.tensors.keys())
    return {
        name: BaseWeight(file, reader, key, rows.third, rows.transposed)
        for key, entry in reader.header.tensors.items()
        if len(entry.shape) >= 2
        for rows in adapted_by(key, text_encoder)
        for name in rows.names
    }


def read_base_weight(weight: BaseWeight) -> Tensor:
    """The weight as an O x I matrix in F32, on the CPU. Only its own rows are read."""
    w_OI = weight.reader.rows(weight.key, *weight.rows).float().flatten(1)
    if not torch.isfinite(w_OI).all():
        raise non_finite(
            f'"{weight.key}" in "{weight.reader.path}" has values that are not finite numbers.',
            hint="The checkpoint is damaged, or the merge that made it overflowed; use another copy of it.",
        )
    return w_OI.T.contiguous() if weight.transposed else w_OI


def frobenius_norm(weight: BaseWeight) -> float:
    """The root of the sum of squares, in one pass over the file, piece by piece.

    A checkpoint has billions of numbers, and writing each to memory once more as a single takes longer than all else.
    Adding the pieces in double precision also keeps digits that one long sum of singles loses.
    """
    square = 0.0
    for piece in weight.reader.pieces(weight.key, *weight.rows):
        numbers = piece.float()
        square += float(torch.dot(numbers, numbers))
    # One number that is not finite shows in the sum; so do squares beyond a single's range, which are no damage.
    return math.sqrt(square) if math.isfinite(square) else float(read_base_weight(weight).double().norm())
