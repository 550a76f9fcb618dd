"""Numbers of the base weights that resize recipes weigh directions against.

For a module with base weight W, seen as an O x I matrix (I in features times kernel area): `frobenius` is the root of
the sum of its squared entries, `spectral` its largest singular value, and `projections` |u W v| for each direction of
the module's decomposition. One weight is in memory at a time; each is read once, in the order of the disk.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from lora_worker.base_weights import Base, BaseWeight, frobenius_norm, read_base_weight
from lora_worker.devices import one_thread, torch_device
from lora_worker.errors import bad_input
from lora_worker.job import Job
from lora_worker.protocol import Fields
from lora_worker.safetensors_file import SafetensorsReader
from lora_worker.whole_file import write_json

# A matrix whose smaller side is at most this is decomposed outright.
_SMALL = 128
_MAX_STEPS = 256
_RELATIVE_ERROR = 1e-6
_PROGRESS_EVERY = 16


@dataclass(frozen=True)
class ReferenceNumbers:
    op: Literal["frobenius", "spectral", "projections"]
    checkpoints: tuple[str, ...]
    modules: str
    factors: str | None
    output: str


def parse(work: Mapping[str, Any]) -> ReferenceNumbers:
    fields = Fields(dict(work), "work")
    op = fields.one_of("op", ("frobenius", "spectral", "projections"))
    factors = fields.text("factors") if op == "projections" else None
    return ReferenceNumbers(op, fields.text_list("checkpoints"), fields.text("modules"), factors, fields.text("output"))


def run(work: ReferenceNumbers, job: Job) -> dict[str, str]:
    device = torch_device()
    if work.op == "frobenius":
        with one_thread():
            numbers = _for_each_weight(work, job, lambda weight, modules: [frobenius_norm(weight)] * len(modules))
    elif work.factors is None:
        numbers = _for_each_weight(
            work,
            job,
            lambda weight, modules: [spectral_norm(read_base_weight(weight).to(device))] * len(modules),
        )
    else:
        with SafetensorsReader(work.factors) as factors:
            numbers = _for_each_weight(
                work,
                job,
                lambda weight, modules: _project_all(factors, modules, read_base_weight(weight).to(device)),
            )
    write_json(work.output, numbers)
    return {"numbers": work.output}


def _for_each_weight(
    work: ReferenceNumbers, job: Job, numbers_of: Callable[[BaseWeight, list[str]], Sequence[float | list[float]]]
) -> dict[str, float | list[float]]:
    """Modules whose base weight is not in the base have no number."""
    modules = _read_names(work.modules)
    numbers: dict[str, float | list[float]] = {}
    with Base(work.checkpoints) as base:
        _report_missing([module for module in modules if module not in base.weights], base.name, job)
        weights = base.by_place(modules)
        for done, (weight, adapting) in enumerate(weights, start=1):
            job.check_cancelled()
            numbers.update(zip(adapting, numbers_of(weight, adapting), strict=True))
            if done % _PROGRESS_EVERY == 0 or done == len(weights):
                job.progress(done, len(weights), "weights")
    return numbers


def spectral_norm(w_OI: Tensor) -> float:
    """The largest singular value, to about six digits.

    Golub, Kahan and Lanczos: W is turned into a small bidiagonal matrix whose largest singular value grows towards
    the true one, a few dozen products with W instead of the many that a plain power iteration needs when the
    second value is close behind. Both bases are kept orthogonal by hand, since rounding would undo it.
    """
    if min(w_OI.shape) <= _SMALL:
        return float(torch.linalg.svdvals(w_OI)[0])
    right = [_start_vector(w_OI.shape[1]).to(w_OI)]
    left: list[Tensor] = []
    diagonal: list[float] = []
    above: list[float] = []
    estimate = 0.0
    for _ in range(min(_MAX_STEPS, *w_OI.shape)):
        u_O, alpha = _next_direction(w_OI @ right[-1], left)
        left.append(u_O)
        diagonal.append(alpha)
        v_I, beta = _next_direction(w_OI.T @ u_O, right)
        u_SS, s_S, _ = torch.linalg.svd(_bidiagonal(diagonal, above))
        previous, estimate = estimate, float(s_S[0])
        # How far the leading pair is from being a singular pair of W; the error of the value is of its square.
        residual = beta * abs(float(u_SS[-1, 0]))
        is_settled = estimate - previous <= _RELATIVE_ERROR * estimate
        if (is_settled and residual <= 0.03 * estimate) or beta <= _RELATIVE_ERROR * estimate:
            break
        right.append(v_I)
        above.append(beta)
    return estimate


def _start_vector(size: int) -> Tensor:
    """The same for every matrix of a size, with a part in every direction."""
    vector = torch.randn(size, generator=torch.Generator().manual_seed(0))
    return vector / torch.linalg.vector_norm(vector)


def _next_direction(vector: Tensor, basis: list[Tensor]) -> tuple[Tensor, float]:
    """The part of a vector that the basis lacks, at length one, and the length it had. Zero where nothing is left."""
    if basis:
        basis_SD = torch.stack(basis)
        for _ in range(2):  # once leaves rounding behind, twice is enough
            vector = vector - basis_SD.T @ (basis_SD @ vector)
    length = float(torch.linalg.vector_norm(vector))
    return (vector / length if length > 0 else vector), length


def _bidiagonal(diagonal: list[float], above: list[float]) -> Tensor:
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    return matrix + torch.diag(torch.tensor(above, dtype=torch.float64), 1) if above else matrix


def _project_all(factors: SafetensorsReader, modules: list[str], w_OI: Tensor) -> list[list[float]]:
    return [_project(factors, module, w_OI) for module in modules]


def _project(factors: SafetensorsReader, module: str, w_OI: Tensor) -> list[float]:
    u_RO = factors.tensor(f"{module}.u").to(w_OI)
    vt_RI = factors.tensor(f"{module}.vt").to(w_OI)
    if (u_RO.shape[1], vt_RI.shape[1]) != tuple(w_OI.shape):
        raise bad_input(
            f'"{module}" of the LoRA changes a {u_RO.shape[1]} x {vt_RI.shape[1]} matrix, '
            f"and the checkpoint's is {w_OI.shape[0]} x {w_OI.shape[1]}.",
            hint="The LoRA was made for another architecture.",
        )
    return ((u_RO @ w_OI) * vt_RI).sum(dim=1).abs().tolist()


def _read_names(path: str) -> list[str]:
    with open(path, encoding="utf-8") as file:
        names = json.load(file)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise bad_input(f'"{path}" is not a list of module names.')
    return names


def _report_missing(missing: list[str], base: str, job: Job) -> None:
    if missing:
        shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        job.log("warning", f'{len(missing)} modules have no weight in "{base}": {shown}.')
