import json
from pathlib import Path

import pytest
import torch
from support import RecordingJob

from lora_worker.errors import Cancelled, WorkerError
from lora_worker.safetensors_file import read_safetensors, write_safetensors
from lora_worker.stages import decompose

GOLDEN = Path(__file__).parents[2] / "test" / "fixtures" / "golden" / "resize"


def decomposed(folder: Path, lora: Path | dict[str, torch.Tensor]):
    """Factors by name, the facts of every module, and the job."""
    if isinstance(lora, dict):
        write_safetensors(folder / "lora.safetensors", lora)
        lora = folder / "lora.safetensors"
    job = RecordingJob()
    work = decompose.parse(
        {
            "op": "decompose",
            "lora": str(lora),
            "extract": None,
            "checkpoints": None,
            "factors": str(folder / "factors.safetensors"),
            "modules": str(folder / "modules.json"),
        }
    )
    outputs = decompose.run(work, job)
    factors, metadata = read_safetensors(outputs["factors"])
    assert json.loads(Path(outputs["modules"]).read_text()) == sorted(json.loads(metadata["lorac.modules"]))
    return factors, metadata, job


def rebuilt(factors: dict[str, torch.Tensor], module: str) -> torch.Tensor:
    return factors[f"{module}.u"].T @ torch.diag(factors[f"{module}.s"]) @ factors[f"{module}.vt"]


def pair(out: int, rank: int, into: int, *, dtype=torch.float32, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    up = torch.randn(out, rank, generator=generator).to(dtype)
    down = torch.randn(rank, into, generator=generator).to(dtype)
    return up, down


def test_the_factors_of_every_golden_module_multiply_back_to_its_change(tmp_path: Path):
    factors, metadata, _ = decomposed(tmp_path, GOLDEN / "lora.safetensors")
    lora, _ = read_safetensors(GOLDEN / "lora.safetensors")
    facts = json.loads(metadata["lorac.modules"])
    assert len(facts) == 54
    for module, fact in facts.items():
        assert 0 <= fact["residual"] < 1e-5 and fact["discarded"] == 0 and fact["family"] == "LoRA"
        up = lora[f"{module}.lora_up.weight"].float().flatten(1)
        down = lora[f"{module}.lora_down.weight"].float().flatten(1)
        change = float(lora[f"{module}.alpha"]) / down.shape[0] * up @ down
        torch.testing.assert_close(rebuilt(factors, module), change, rtol=1e-4, atol=1e-5 * float(change.abs().max()))
        assert fact["down_shape"] == list(lora[f"{module}.lora_down.weight"].shape)
        assert fact["up_shape"] == list(lora[f"{module}.lora_up.weight"].shape)


def test_directions_are_orthonormal_and_come_strongest_first(tmp_path: Path):
    factors, metadata, _ = decomposed(tmp_path, GOLDEN / "lora.safetensors")
    for module in json.loads(metadata["lorac.modules"]):
        u, s, vt = (factors[f"{module}.{part}"] for part in ("u", "s", "vt"))
        assert (s.diff() <= 0).all() and (s >= 0).all()
        torch.testing.assert_close(u @ u.T, torch.eye(len(s)), rtol=0, atol=1e-5)
        torch.testing.assert_close(vt @ vt.T, torch.eye(len(s)), rtol=0, atol=1e-5)
        assert (u.gather(1, u.abs().argmax(1, keepdim=True)) > 0).all()


def test_doing_it_again_gives_the_same_bytes(tmp_path: Path):
    contents = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        decomposed(tmp_path / name, GOLDEN / "lora.safetensors")
        contents.append((tmp_path / name / "factors.safetensors").read_bytes())
    assert contents[0] == contents[1]


def test_a_missing_alpha_means_a_scale_of_one_and_half_precision_is_read_as_it_is(tmp_path: Path):
    up, down = pair(6, 2, 5, dtype=torch.bfloat16)
    factors, metadata, _ = decomposed(tmp_path, {"m.lora_up.weight": up, "m.lora_down.weight": down})
    torch.testing.assert_close(rebuilt(factors, "m"), up.float() @ down.float())
    assert json.loads(metadata["lorac.modules"])["m"]["scale"] == 1


def test_the_sign_of_a_negative_alpha_is_in_the_factors(tmp_path: Path):
    up, down = pair(6, 2, 5)
    lora = {"m.lora_up.weight": up, "m.lora_down.weight": down, "m.alpha": torch.tensor(-4.0)}
    factors, metadata, _ = decomposed(tmp_path, lora)
    assert (factors["m.s"] >= 0).all()
    torch.testing.assert_close(rebuilt(factors, "m"), -2 * up @ down)
    facts = json.loads(metadata["lorac.modules"])["m"]
    assert facts.pop("residual") < 1e-6
    assert facts == {
        "alpha": -4.0,
        "rank": 2,
        "scale": 2.0,
        "up_shape": [6, 2],
        "down_shape": [2, 5],
        "family": "LoRA",
        "discarded": 0,
    }


def test_a_rank_above_the_matrix_shrinks_to_it(tmp_path: Path):
    up, down = pair(3, 8, 5)
    factors, _, _ = decomposed(tmp_path, {"m.lora_up.weight": up, "m.lora_down.weight": down})
    assert factors["m.u"].shape == (3, 3) and factors["m.vt"].shape == (3, 5)
    torch.testing.assert_close(rebuilt(factors, "m"), up @ down, rtol=1e-4, atol=1e-5)


def test_a_module_of_zeros_has_directions_of_no_strength(tmp_path: Path):
    factors, _, _ = decomposed(
        tmp_path, {"m.lora_up.weight": torch.zeros(4, 2), "m.lora_down.weight": torch.randn(2, 3)}
    )
    assert factors["m.s"].tolist() == [0, 0]
    assert all(torch.isfinite(tensor).all() for tensor in factors.values())


def test_the_middle_of_a_tucker_module_is_folded_in(tmp_path: Path):
    up, down, mid = torch.randn(6, 2, 1, 1), torch.randn(2, 5, 1, 1), torch.randn(2, 2, 3, 3)
    lora = {"m.lora_up.weight": up, "m.lora_down.weight": down, "m.lora_mid.weight": mid, "m.alpha": torch.tensor(1.0)}
    factors, metadata, _ = decomposed(tmp_path, lora)
    change = 0.5 * torch.einsum("oi,ijhw,jc->ochw", up[:, :, 0, 0], mid, down[:, :, 0, 0])
    torch.testing.assert_close(rebuilt(factors, "m"), change.flatten(1), rtol=1e-4, atol=1e-5)
    assert json.loads(metadata["lorac.modules"])["m"]["down_shape"] == [2, 5, 3, 3]


def test_modules_of_other_families_are_listed_and_left_out(tmp_path: Path):
    up, down = pair(4, 2, 3)
    lora = {
        "plain.lora_up.weight": up,
        "plain.lora_down.weight": down,
        "kron.lokr_w1": up,
        "norm.w_norm": torch.ones(4),
        "scaled.lora_up.weight": up,
        "scaled.lora_down.weight": down,
        "scaled.scalar": torch.tensor(0.5),
        "turn.oft_blocks": torch.ones(2, 2, 2),
        "haha.hada_w1_a": up,
        "haha.dora_scale": up,
        "bias.diff_b": torch.ones(4),
        "odd.lora_up.weight": up,
        "odd.lora_down.weight": down,
        "odd.reshape_weight": torch.ones(2),
    }
    factors, metadata, _ = decomposed(tmp_path, lora)
    assert {name.partition(".")[0] for name in factors} == {"plain"}
    assert json.loads(metadata["lorac.skipped"]) == {
        "kron": "extract = 64 would make a LoRA of it first",
        "norm": "a norm has no directions",
        "scaled": '"scalar" beside it changes what it means',
        "turn": "OFT turns the base weight and has no low rank",
        "haha": "a LoHa with a DoRA magnitude cannot be extracted",
        "bias": "only its bias changes",
        "odd": "it is of no known family: lora_down.weight, lora_up.weight, reshape_weight",
    }


@pytest.mark.parametrize(
    ("part", "value", "kind"),
    [("lora_down.weight", float("nan"), "non-finite"), ("alpha", float("inf"), "non-finite")],
)
def test_a_value_that_is_not_finite_is_refused_by_the_name_of_its_tensor(tmp_path: Path, part, value, kind):
    up, down = pair(4, 2, 3)
    lora = {"m.lora_up.weight": up, "m.lora_down.weight": down, "m.alpha": torch.tensor(1.0)}
    lora[f"m.{part}"].view(-1)[0] = value
    with pytest.raises(WorkerError, match=f"m.{part}") as caught:
        decomposed(tmp_path, lora)
    assert caught.value.kind == kind


def test_shapes_that_do_not_fit_together_are_refused(tmp_path: Path):
    with pytest.raises(WorkerError, match="do not fit together"):
        decomposed(tmp_path, {"m.lora_up.weight": torch.ones(4, 3), "m.lora_down.weight": torch.ones(2, 5)})


def test_a_file_without_lora_modules_is_refused(tmp_path: Path):
    with pytest.raises(WorkerError, match="no LoRA modules"):
        decomposed(tmp_path, {"some.weight": torch.ones(4, 3)})


def test_a_cancel_is_heard_and_leaves_no_output(tmp_path: Path):
    job = RecordingJob()
    job.cancel()
    work = decompose.Decompose(str(GOLDEN / "lora.safetensors"), None, None, str(tmp_path / "f"), str(tmp_path / "m"))
    with pytest.raises(Cancelled):
        decompose.run(work, job)
    assert list(tmp_path.iterdir()) == []


def test_progress_ends_at_the_number_of_modules(tmp_path: Path):
    _, _, job = decomposed(tmp_path, GOLDEN / "lora.safetensors")
    assert job.of_type("progress")[-1] == {"done": 54, "total": 54, "unit": "modules", "note": None}
