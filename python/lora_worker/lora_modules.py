"""The modules of a LoRA file that can be taken apart into directions, and why the others cannot.

Decided for each module alone, since trainers mix families in one file. Names and suffixes are those of the canonical
form. Headers tell all that is decided here; numbers are read when a module's turn comes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lora_worker.errors import WorkerError, bad_input, non_finite
from lora_worker.families import family_of
from lora_worker.safetensors_file import SafetensorsReader

# Beside a LoRA these change what it means, in ways that a decomposition would lose.
_CHANGES_MEANING = ("dyn_dim", "scalar", "scale")
_EXTRACTABLE = ("LoHa", "LoKr", "GLoRA", "full")


@dataclass(frozen=True)
class ModuleTensors:
    """One module as it lies in a file: its tensors by suffix."""

    name: str
    family: str
    reader: SafetensorsReader
    shapes: Mapping[str, tuple[int, ...]] = field(compare=False)

    def __contains__(self, part: str) -> bool:
        return part in self.shapes

    def tensor(self, part: str) -> Tensor:
        """In its own shape and dtype."""
        return self.reader.tensor(f"{self.name}.{part}")

    def checked(self, part: str) -> Tensor:
        """In F32. Refuses NaN and infinity, which would spread everywhere."""
        tensor = self.tensor(part).float()
        if not torch.isfinite(tensor).all():
            raise self.not_finite(part)
        return tensor

    def matrix(self, part: str) -> Tensor:
        """As `checked`, all behind the first axis as columns."""
        return self.checked(part).flatten(1)

    def alpha(self) -> float | None:
        """None where the file has none, which means a scale of one."""
        if "alpha" not in self:
            return None
        tensor = self.tensor("alpha")
        if tensor.numel() != 1:
            raise bad_input(
                f'"{self.name}.alpha" in "{self.reader.path}" has shape {list(tensor.shape)}, and one number is needed.'
            )
        alpha = float(tensor)
        if not math.isfinite(alpha):
            raise self.not_finite("alpha")
        return alpha

    def not_finite(self, part: str) -> WorkerError:
        return non_finite(
            f'"{self.name}.{part}" in "{self.reader.path}" has values that are not finite numbers.',
            hint="The training that made this file went wrong; train again with a lower learning rate.",
        )

    def misfit(self) -> WorkerError:
        shapes = ", ".join(f"{part} {list(shape)}" for part, shape in sorted(self.shapes.items()) if part != "alpha")
        return bad_input(f'"{self.name}" in "{self.reader.path}" has shapes that do not fit together: {shapes}.')


def find_modules(reader: SafetensorsReader, *, extracting: bool) -> tuple[list[ModuleTensors], dict[str, str]]:
    """Those that can be taken apart, sorted by name, and why every other one is left out.

    With `extracting` these are LoHa, LoKr, GLoRA and full besides LoRA. Raises `bad-input` where none is left.
    """
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, entry in reader.header.tensors.items():
        name, _, part = key.partition(".")
        shapes.setdefault(name, {})[part] = entry.shape
    modules: list[ModuleTensors] = []
    skipped: dict[str, str] = {}
    for name in sorted(shapes):
        parts = set(shapes[name])
        family = family_of(parts)
        reason = _reason_to_skip(family, parts, extracting=extracting)
        if reason is None:
            called = "DoRA" if family == "LoRA" and "dora_scale" in parts else family
            modules.append(ModuleTensors(name, called, reader, shapes[name]))
        else:
            skipped[name] = reason
    if not modules:
        raise _nothing_to_do(reader.path, skipped)
    return modules, skipped


_COULD_BE_EXTRACTED = "extract = 64 would make a LoRA of it first"
_NOT_LOW_RANK = {
    "norm": "a norm has no directions",
    "IA3": "IA³ scales rows or columns and has no low rank",
    "OFT": "OFT turns the base weight and has no low rank",
}


def _reason_to_skip(family: str, parts: set[str], *, extracting: bool) -> str | None:
    changing = next((part for part in _CHANGES_MEANING if part in parts), None)
    if changing:
        return f'"{changing}" beside it changes what it means'
    if family == "LoRA":
        return None
    if family in _NOT_LOW_RANK:
        return _NOT_LOW_RANK[family]
    if family not in _EXTRACTABLE:
        return f"it is of no known family: {', '.join(sorted(parts))}"
    if family == "full" and "diff" not in parts:
        return "only its bias changes"
    if "dora_scale" in parts:
        return f"a {family} with a DoRA magnitude cannot be extracted"
    return None if extracting else _COULD_BE_EXTRACTED


def _nothing_to_do(path: str, skipped: Mapping[str, str]) -> WorkerError:
    hint = (
        "Give extract = 64 to make LoRA modules of what it has."
        if _COULD_BE_EXTRACTED in skipped.values()
        else "Only LoRA and LoCon files can be resized, and with extract LoHa, LoKr, GLoRA and full ones."
    )
    return bad_input(
        f'"{path}" has no LoRA modules: no tensors named "….lora_up.weight" and "….lora_down.weight".', hint=hint
    )
