"""U, σ and V of every module of a LoRA, so that resizing afterwards is only choosing and scaling directions.

The factors file has, for each module M, `M.u` [R, O], `M.s` [R] and `M.vt` [R, I], F32: one row per direction, the
strongest first, so that a reader takes what it keeps from the front. `s` is in units of ΔW: it has |α|/rank in it,
and the sign of a negative α is in `u`. Its metadata holds `lorac.modules`, what a writer needs to put a module
together again, and `lorac.skipped`, the modules of other families and why they were left out.

Shape letters: N modules of one shape, O out features, I in features times kernel area, R rank.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lora_worker.devices import torch_device
from lora_worker.errors import bad_input, non_finite
from lora_worker.job import Job
from lora_worker.protocol import Fields
from lora_worker.safetensors_file import SafetensorsReader, write_safetensors
from lora_worker.whole_file import write_json

# Modules of one shape are worked on together, up to this many bytes of factors at a time.
_BATCH_BYTES = 128 * 2**20

# Beside a LoRA these change what it means, in ways that a decomposition would lose.
_CHANGES_MEANING = ("scalar", "scale")


@dataclass(frozen=True)
class Decompose:
    lora: str
    extract: int | None
    checkpoints: tuple[str, ...] | None
    factors: str
    modules: str


@dataclass(frozen=True)
class Module:
    """One LoRA module as it lies in the file. The shapes are those of the stored tensors."""

    name: str
    alpha: float
    up_shape: tuple[int, ...]
    down_shape: tuple[int, ...]
    mid_shape: tuple[int, ...] | None

    @property
    def rank(self) -> int:
        return self.down_shape[0]

    @property
    def folded_down_shape(self) -> tuple[int, ...]:
        """`down` with the kernel of a Tucker module's middle folded in: what a plain LoCon module would store."""
        return self.down_shape if self.mid_shape is None else (*self.down_shape[:2], *self.mid_shape[2:])

    @property
    def flat_shape(self) -> tuple[int, int, int]:
        """O, R, I."""
        return self.up_shape[0], self.rank, math.prod(self.folded_down_shape[1:])


def parse(work: Mapping[str, Any]) -> Decompose:
    fields = Fields(dict(work), "work")
    return Decompose(
        fields.text("lora"),
        fields.optional_whole("extract"),
        fields.optional_text_list("checkpoints"),
        fields.text("factors"),
        fields.text("modules"),
    )


def run(work: Decompose, job: Job) -> dict[str, str]:
    with SafetensorsReader(work.lora) as reader:
        modules, skipped = find_modules(reader)
        factors: dict[str, Tensor] = {}
        for batch in _batches(modules):
            job.check_cancelled()
            factors.update(_decompose_batch(reader, batch))
            job.progress(len(factors) // 3, len(modules), "modules")
    metadata = {
        "lorac.modules": _compact({module.name: _facts(module) for module in modules}),
        "lorac.skipped": _compact(skipped),
    }
    write_safetensors(work.factors, factors, metadata)
    write_json(work.modules, [module.name for module in modules])
    return {"factors": work.factors, "modules": work.modules}


def find_modules(reader: SafetensorsReader) -> tuple[list[Module], dict[str, str]]:
    """The LoRA modules of a file, sorted by name, and why every other one is left out.

    Decided for each module alone: trainers mix families in one file.
    """
    parts: dict[str, set[str]] = {}
    for key in reader.header.tensors:
        name, _, part = key.partition(".")
        parts.setdefault(name, set()).add(part)
    modules: list[Module] = []
    skipped: dict[str, str] = {}
    for name in sorted(parts):
        reason = _reason_to_skip(parts[name])
        if reason is None:
            modules.append(_read_module(reader, name))
        else:
            skipped[name] = reason
    if not modules:
        raise bad_input(
            f'"{reader.path}" has no LoRA modules: no tensors named "….lora_up.weight" and "….lora_down.weight".',
            hint="Only LoRA and LoCon files can be resized.",
        )
    return modules, skipped


def _reason_to_skip(parts: set[str]) -> str | None:
    if not {"lora_up.weight", "lora_down.weight"} <= parts:
        return f"not a LoRA module: {', '.join(sorted(parts))}"
    foreign = sorted(part for part in parts if part in _CHANGES_MEANING)
    if foreign:
        return f'has "{foreign[0]}" beside its LoRA'
    return None


def _read_module(reader: SafetensorsReader, name: str) -> Module:
    def shape(part: str) -> tuple[int, ...] | None:
        entry = reader.header.tensors.get(f"{name}.{part}")
        return None if entry is None else entry.shape

    up, down, mid = shape("lora_up.weight"), shape("lora_down.weight"), shape("lora_mid.weight")
    assert up is not None and down is not None
    fits = len(up) >= 2 and len(down) >= 2 and up[1] == down[0] > 0 and math.prod(up[2:]) == 1
    if mid is not None:
        fits = fits and len(mid) == 4 and mid[:2] == (down[0], down[0]) and math.prod(down[2:]) == 1
    if not fits:
        shapes = ", ".join(str(list(each)) for each in (up, down, mid) if each is not None)
        raise bad_input(f'"{name}" in "{reader.path}" has shapes that do not fit together: {shapes}.')
    return Module(name, _read_alpha(reader, name, default=down[0]), up, down, mid)


def _read_alpha(reader: SafetensorsReader, name: str, *, default: float) -> float:
    """A file without an alpha means a scale of one."""
    if f"{name}.alpha" not in reader:
        return float(default)
    tensor = reader.tensor(f"{name}.alpha")
    if tensor.numel() != 1:
        raise bad_input(f'"{name}.alpha" in "{reader.path}" has shape {list(tensor.shape)}, and one number is needed.')
    alpha = float(tensor)
    if not math.isfinite(alpha):
        raise non_finite(f'"{name}.alpha" in "{reader.path}" is not a finite number.')
    return alpha


def _batches(modules: list[Module]) -> Iterator[list[Module]]:
    by_shape: dict[tuple[int, int, int], list[Module]] = {}
    for module in modules:
        by_shape.setdefault(module.flat_shape, []).append(module)
    for (o, r, i), group in sorted(by_shape.items()):
        size = max(1, _BATCH_BYTES // (4 * r * (o + i)))
        for first in range(0, len(group), size):
            yield group[first : first + size]


def _decompose_batch(reader: SafetensorsReader, modules: list[Module]) -> dict[str, Tensor]:
    device = torch_device()
    up_NOR = torch.stack([_read_flat(reader, module.name, "lora_up.weight") for module in modules]).to(device)
    down_NRI = torch.stack([_read_down(reader, module) for module in modules]).to(device)
    u_NRO, s_NR, vt_NRI = (part.cpu() for part in decompose_pairs(up_NOR, down_NRI))
    factors: dict[str, Tensor] = {}
    for index, module in enumerate(modules):
        scale = module.alpha / module.rank
        factors[f"{module.name}.u"] = u_NRO[index] * (-1.0 if scale < 0 else 1.0)
        factors[f"{module.name}.s"] = s_NR[index] * abs(scale)
        factors[f"{module.name}.vt"] = vt_NRI[index]
    return factors


def decompose_pairs(up_NOR: Tensor, down_NRI: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Singular value decompositions of up @ down, without ever forming the O x I products.

    Gives U^T, σ, V^T with one row per direction. A rank above O or I shrinks to it. Each direction has the sign
    that makes the largest entry of its row of U^T positive, so that the result does not depend on the library's choice.
    """
    q_NOR, a_NRR = torch.linalg.qr(up_NOR)
    p_NIR, b_NRR = torch.linalg.qr(down_NRI.mT)
    u_NRR, s_NR, vt_NRR = torch.linalg.svd(a_NRR @ b_NRR.mT, full_matrices=False)
    u_NRO = (q_NOR @ u_NRR).mT
    vt_NRI = vt_NRR @ p_NIR.mT
    largest_NR1 = u_NRO.abs().argmax(dim=-1, keepdim=True)
    sign_NR1 = torch.where(u_NRO.gather(-1, largest_NR1) < 0, -1.0, 1.0)
    return u_NRO * sign_NR1, s_NR, vt_NRI * sign_NR1


def _read_down(reader: SafetensorsReader, module: Module) -> Tensor:
    down_RI = _read_flat(reader, module.name, "lora_down.weight")
    if module.mid_shape is None:
        return down_RI
    mid_RRK = _read_flat(reader, module.name, "lora_mid.weight").reshape(module.rank, module.rank, -1)
    return torch.einsum("rsk,si->rik", mid_RRK, down_RI).reshape(module.rank, -1)


def _read_flat(reader: SafetensorsReader, module: str, part: str) -> Tensor:
    """A weight as a matrix in F32. Refuses NaN and infinity, which would spread into every direction."""
    name = f"{module}.{part}"
    tensor = reader.tensor(name).float()
    if not torch.isfinite(tensor).all():
        raise non_finite(
            f'"{name}" in "{reader.path}" has values that are not finite numbers.',
            hint="The training that made this file went wrong; train again with a lower learning rate.",
        )
    return tensor.reshape(tensor.shape[0], -1)


def _facts(module: Module) -> dict[str, Any]:
    """`scale` is never negative: the sign of `alpha` is in the factors."""
    return {
        "alpha": module.alpha,
        "rank": module.rank,
        "scale": abs(module.alpha) / module.rank,
        "up_shape": list(module.up_shape),
        "down_shape": list(module.folded_down_shape),
    }


def _compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
