"""U, σ and V of every module of a LoRA, so that resizing afterwards is only choosing and scaling directions.

The factors file has, for each module M, `M.u` [K, O], `M.s` [K] and `M.vt` [K, I], F32: one row per direction, the
strongest first, so that a reader takes what it keeps from the front. `s` is in units of ΔW: it has |α|/rank in it,
and the sign of a negative α is in `u`. Its metadata holds `lorac.modules`, what a writer needs to put a module
together again, and `lorac.skipped`, the other modules and why they were left out.

With `extract`, modules of other families that change a weight become LoRA of at most that rank.

Shape letters: O out features, I in features times kernel area, R rank, K directions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lora_worker.base_weights import Base, BaseWeight
from lora_worker.devices import torch_device
from lora_worker.directions import Directions
from lora_worker.errors import bad_input, non_finite
from lora_worker.extraction import Extraction, extraction_of
from lora_worker.factors_file import factors_file
from lora_worker.job import Job
from lora_worker.lora_modules import ModuleTensors, find_modules
from lora_worker.low_rank import LowRank, decompose_all
from lora_worker.protocol import Fields
from lora_worker.safetensors_file import SafetensorsReader
from lora_worker.whole_file import write_json

# Modules of one shape are worked on together, up to this many bytes of factors at a time.
_BATCH_BYTES = 64 * 2**20

# As long as a number can be in JSON.
_LONGEST_NUMBER = -1.2345678901234567e-308


Source = LowRank | Extraction
Exactness = tuple[float, float]
"""Residual and discarded energy."""


@dataclass(frozen=True)
class Decompose:
    lora: str
    extract: int | None
    checkpoints: tuple[str, ...] | None
    factors: str
    modules: str


def parse(work: Mapping[str, Any]) -> Decompose:
    fields = Fields(dict(work), "work")
    extract = fields.optional_whole("extract")
    if extract is not None and extract < 1:
        raise bad_input(f"A LoRA cannot have {extract} directions.", hint="Give extract a number from 1.")
    return Decompose(
        fields.text("lora"),
        extract,
        fields.optional_text_list("checkpoints"),
        fields.text("factors"),
        fields.text("modules"),
    )


def run(work: Decompose, job: Job) -> dict[str, str]:
    device = _device()
    with ExitStack() as opened:
        reader = opened.enter_context(SafetensorsReader(work.lora))
        found, skipped = find_modules(reader, extracting=work.extract is not None)
        weights = opened.enter_context(Base(work.checkpoints)).weights if work.checkpoints else {}
        sources = [_source(module, work.extract, weights.get(module.name)) for module in found]
        longest = _metadata({source: (_LONGEST_NUMBER, _LONGEST_NUMBER) for source in sources}, skipped)
        shapes = {name: shape for source in sources for name, shape in _shapes(source).items()}
        with factors_file(work.factors, shapes, longest) as file:
            exactness: dict[Source, Exactness] = {}
            for batch in _batches(sources):
                job.check_cancelled()
                results = _decompose(batch, device)
                file.write(dict(_tensors(batch, results)))
                for source, directions in zip(batch, results, strict=True):
                    exactness[source] = (directions.residual, directions.discarded)
                job.progress(len(exactness), len(sources), "modules")
            file.metadata = _metadata(exactness, skipped)
    write_json(work.modules, [module.name for module in found])
    return {"factors": work.factors, "modules": work.modules}


def _device() -> torch.device:
    """Apple's GPUs know no double precision, and their processors are quick at this."""
    device = torch_device()
    return torch.device("cpu") if device.type == "mps" else device


def _source(module: ModuleTensors, extract: int | None, base: BaseWeight | None) -> Source:
    if module.family in ("LoRA", "DoRA"):
        return LowRank(module)
    assert extract is not None
    return extraction_of(module, base, at_most=extract)


def _shapes(source: Source) -> dict[str, tuple[int, ...]]:
    out, into = source.flat_shape
    count = min(out, source.rank, into)
    name = source.module.name
    return {f"{name}.u": (count, out), f"{name}.s": (count,), f"{name}.vt": (count, into)}


def _batches(sources: Sequence[Source]) -> Iterator[Sequence[Source]]:
    """Modules that are worked on together: LoRA of one shape and rank, and every other alone.

    Large and small ones take turns, so that the progress that is told is even.
    """
    by_shape: dict[tuple[int, int, int], list[Source]] = {}
    batches: list[Sequence[Source]] = []
    for source in sources:
        if isinstance(source, LowRank):
            by_shape.setdefault((source.rank, *source.flat_shape), []).append(source)
        else:
            batches.append([source])
    for (rank, out, into), group in sorted(by_shape.items()):
        size = max(1, _BATCH_BYTES // (4 * rank * (out + into)))
        batches.extend(group[first : first + size] for first in range(0, len(group), size))
    for turn in range(len(batches)):
        yield batches[turn // 2 if turn % 2 else -1 - turn // 2]


def _decompose(batch: Sequence[Source], device: torch.device) -> list[Directions]:
    alike = [source for source in batch if isinstance(source, LowRank)]
    if alike:
        return decompose_all(alike, device)
    return [_extract(source, device) for source in batch if isinstance(source, Extraction)]


def _extract(source: Extraction, device: torch.device) -> Directions:
    try:
        return source.directions(device)
    except FloatingPointError:
        raise non_finite(f'The change of "{source.module.name}" is too large for single precision.') from None


def _tensors(batch: Sequence[Source], results: Sequence[Directions]) -> Iterator[tuple[str, Tensor]]:
    for source, directions in zip(batch, results, strict=True):
        for part in ("u", "s", "vt"):
            yield f"{source.module.name}.{part}", getattr(directions, part).cpu()


def _metadata(exactness: Mapping[Source, Exactness], skipped: Mapping[str, str]) -> dict[str, str]:
    facts = {
        source.module.name: {
            "alpha": source.alpha,
            "rank": source.rank,
            # Never negative: the sign of `alpha` is in the factors.
            "scale": abs(source.alpha) / source.rank,
            "up_shape": list(source.up_shape),
            "down_shape": list(source.down_shape),
            "family": source.module.family,
            "residual": residual,
            "discarded": discarded,
        }
        for source, (residual, discarded) in exactness.items()
    }
    return {"lorac.modules": _compact(facts), "lorac.skipped": _compact(skipped)}


def _compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
