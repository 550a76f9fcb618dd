"""A decomposition of a LoRA that a test writes, and the slow, obvious numbers to hold it against."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from support import RecordingJob

from lora_worker.safetensors_file import read_safetensors, write_safetensors
from lora_worker.stages import decompose


@dataclass(frozen=True)
class Decomposed:
    factors: dict[str, torch.Tensor]
    facts: dict[str, dict[str, Any]]
    skipped: dict[str, str]
    job: RecordingJob

    def rebuilt(self, module: str) -> torch.Tensor:
        u, s, vt = (self.factors[f"{module}.{part}"].double() for part in ("u", "s", "vt"))
        return (u.T * s) @ vt


def decomposed(
    folder: Path,
    lora: Path | dict[str, torch.Tensor],
    *,
    extract: int | None = None,
    base: dict[str, torch.Tensor] | None = None,
) -> Decomposed:
    folder.mkdir(exist_ok=True)
    if isinstance(lora, dict):
        write_safetensors(folder / "lora.safetensors", {name: tensor.contiguous() for name, tensor in lora.items()})
        lora = folder / "lora.safetensors"
    if base is not None:
        write_safetensors(folder / "base.safetensors", base)
    job = RecordingJob()
    work = decompose.parse(
        {
            "op": "decompose",
            "lora": str(lora),
            "extract": extract,
            "checkpoints": None if base is None else [str(folder / "base.safetensors")],
            "factors": str(folder / "factors.safetensors"),
            "modules": str(folder / "modules.json"),
        }
    )
    outputs = decompose.run(work, job)
    factors, metadata = read_safetensors(outputs["factors"])
    facts = json.loads(metadata["lorac.modules"])
    assert json.loads(Path(outputs["modules"]).read_text()) == sorted(facts)
    return Decomposed(factors, facts, json.loads(metadata["lorac.skipped"]), job)


def expect_strongest(found: Decomposed, module: str, change: torch.Tensor, rank: int) -> None:
    """The directions are those of `change` [O, …] as a singular value decomposition in double precision has them."""
    change_OI = change.double().flatten(1)
    s = torch.linalg.svdvals(change_OI)
    rank = min(rank, len(s))
    u, strengths, vt = (found.factors[f"{module}.{part}"].double() for part in ("u", "s", "vt"))
    assert len(strengths) == rank
    energy = float(s.square().sum())
    torch.testing.assert_close(strengths, s[:rank], rtol=2e-5, atol=2e-6 * float(s[0]))
    torch.testing.assert_close(u @ u.T, torch.eye(rank, dtype=torch.float64), rtol=0, atol=1e-5)
    torch.testing.assert_close(vt @ vt.T, torch.eye(rank, dtype=torch.float64), rtol=0, atol=1e-5)
    assert (u.gather(1, u.abs().argmax(1, keepdim=True)) > 0).all()
    error = float((change_OI - found.rebuilt(module)).square().sum())
    lost = float(s[rank:].square().sum())
    facts = found.facts[module]
    assert abs(error - lost) <= 1e-5 * energy + 1e-30
    assert abs(facts["discarded"] - lost) <= 1e-5 * energy + 1e-30
    assert 0 <= facts["residual"] < 1e-5


def expect_lora_shapes(found: Decomposed, module: str, weight_shape: tuple[int, ...]) -> None:
    facts = found.facts[module]
    rank = len(found.factors[f"{module}.s"])
    assert (facts["rank"], facts["alpha"], facts["scale"]) == (rank, rank, 1)
    assert facts["up_shape"] == [weight_shape[0], rank, *(1 for _ in weight_shape[2:])]
    assert facts["down_shape"] == [rank, *weight_shape[1:]]
