import errno
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from decompose_lab import decomposed, expect_strongest
from support import RecordingJob

from lora_worker import directions, factors_file
from lora_worker.errors import Cancelled, WorkerError
from lora_worker.safetensors_file import read_safetensors
from lora_worker.stages import decompose

GOLDEN = Path(__file__).parents[2] / "test" / "fixtures" / "golden" / "resize"


def pair(out: int, rank: int, into: int, *, dtype=torch.float32, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    up = torch.randn(out, rank, generator=generator).to(dtype)
    down = torch.randn(rank, into, generator=generator).to(dtype)
    return up, down


def test_the_factors_of_every_golden_module_multiply_back_to_its_change(tmp_path: Path):
    found = decomposed(tmp_path, GOLDEN / "lora.safetensors")
    lora, _ = read_safetensors(GOLDEN / "lora.safetensors")
    facts = found.facts
    assert len(facts) == 54
    for module, fact in facts.items():
        assert 0 <= fact["residual"] < 1e-5 and fact["discarded"] == 0 and fact["family"] == "LoRA"
        up = lora[f"{module}.lora_up.weight"].float().flatten(1)
        down = lora[f"{module}.lora_down.weight"].float().flatten(1)
        change = float(lora[f"{module}.alpha"]) / down.shape[0] * up @ down
        torch.testing.assert_close(
            found.rebuilt(module).float(), change, rtol=1e-4, atol=1e-5 * float(change.abs().max())
        )
        assert fact["down_shape"] == list(lora[f"{module}.lora_down.weight"].shape)
        assert fact["up_shape"] == list(lora[f"{module}.lora_up.weight"].shape)


def test_directions_are_orthonormal_and_come_strongest_first(tmp_path: Path):
    found = decomposed(tmp_path, GOLDEN / "lora.safetensors")
    for module in found.facts:
        u, s, vt = (found.factors[f"{module}.{part}"] for part in ("u", "s", "vt"))
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
    found = decomposed(tmp_path, {"m.lora_up.weight": up, "m.lora_down.weight": down})
    torch.testing.assert_close(found.rebuilt("m").float(), up.float() @ down.float())
    assert found.facts["m"]["scale"] == 1


def test_the_sign_of_a_negative_alpha_is_in_the_factors(tmp_path: Path):
    up, down = pair(6, 2, 5)
    lora = {"m.lora_up.weight": up, "m.lora_down.weight": down, "m.alpha": torch.tensor(-4.0)}
    found = decomposed(tmp_path, lora)
    assert (found.factors["m.s"] >= 0).all()
    torch.testing.assert_close(found.rebuilt("m").float(), -2 * up @ down)
    facts = found.facts["m"]
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
    found = decomposed(tmp_path, {"m.lora_up.weight": up, "m.lora_down.weight": down})
    assert found.factors["m.u"].shape == (3, 3) and found.factors["m.vt"].shape == (3, 5)
    torch.testing.assert_close(found.rebuilt("m").float(), up @ down, rtol=1e-4, atol=1e-5)


def test_a_module_of_zeros_has_directions_of_no_strength(tmp_path: Path):
    found = decomposed(tmp_path, {"m.lora_up.weight": torch.zeros(4, 2), "m.lora_down.weight": torch.randn(2, 3)})
    assert found.factors["m.s"].tolist() == [0, 0]
    assert all(torch.isfinite(tensor).all() for tensor in found.factors.values())


def test_the_middle_of_a_tucker_module_is_folded_in(tmp_path: Path):
    up, down, mid = torch.randn(6, 2, 1, 1), torch.randn(2, 5, 1, 1), torch.randn(2, 2, 3, 3)
    lora = {"m.lora_up.weight": up, "m.lora_down.weight": down, "m.lora_mid.weight": mid, "m.alpha": torch.tensor(1.0)}
    found = decomposed(tmp_path, lora)
    change = 0.5 * torch.einsum("oi,ijhw,jc->ochw", up[:, :, 0, 0], mid, down[:, :, 0, 0])
    torch.testing.assert_close(found.rebuilt("m").float(), change.flatten(1), rtol=1e-4, atol=1e-5)
    assert found.facts["m"]["down_shape"] == [2, 5, 3, 3]


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
    found = decomposed(tmp_path, lora)
    assert {name.partition(".")[0] for name in found.factors} == {"plain"}
    assert found.skipped == {
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
    found = decomposed(tmp_path, GOLDEN / "lora.safetensors")
    assert found.job.of_type("progress")[-1] == {"done": 54, "total": 54, "unit": "modules", "note": None}


def test_the_lora_part_of_a_dora_is_taken_apart(tmp_path: Path):
    up, down = pair(6, 2, 5)
    lora = {"m.lora_up.weight": up, "m.lora_down.weight": down, "m.dora_scale": torch.ones(6, 1)}
    found = decomposed(tmp_path, lora)
    assert found.facts["m"]["family"] == "DoRA"
    expect_strongest(found, "m", up.double() @ down.double(), 2)


def mixed(spectrum: torch.Tensor, columns: int) -> torch.Tensor:
    """Rows that are far from orthogonal, with these singular values."""
    rows = len(spectrum)
    turn = torch.linalg.qr(torch.randn(rows, rows))[0]
    return turn @ (spectrum[:, None] * torch.linalg.qr(torch.randn(columns, rows))[0].T)


def hard_cases() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Up and down of modules that are long enough for their Gram matrix to be used, and do their best to foil it."""
    torch.manual_seed(7)
    up, down = torch.randn(160, 32), torch.randn(32, 300)
    lengths = torch.logspace(0, -3, 32)
    return {
        "trained": (up, down),
        "rows of different lengths": (up * lengths, down * lengths[:, None]),
        "rows far from orthogonal": (up, mixed(torch.logspace(0, -5, 32), 300)),
        "rows a little from orthogonal": (up, mixed(torch.logspace(0, -1.2, 32), 300)),
        "a steep up": (mixed(torch.logspace(0, -6, 32), 160).T, down),
        "rows that are zero": (up, torch.cat([down[:20], torch.zeros(12, 300)])),
        "rows that are equal": (up, down[torch.arange(32) // 2]),
        "an up of zeros": (torch.zeros(160, 32), down),
        "numbers near the ends of half precision": (up * 1e4, down * 6e-8),
        "a rank above the rows": (up[:20], down),
    }


@pytest.mark.parametrize("case", hard_cases())
def test_long_factors_are_taken_apart_as_exactly_as_short_ones(tmp_path: Path, case: str):
    up, down = hard_cases()[case]
    found = decomposed(tmp_path, {"m.lora_up.weight": up, "m.lora_down.weight": down})
    expect_strongest(found, "m", up.double() @ down.double(), 32)


def test_long_factors_are_taken_apart_the_quick_way_where_that_is_exact(monkeypatch: pytest.MonkeyPatch):
    slow: list[torch.Size] = []
    householder = directions._HouseholderBasis
    monkeypatch.setattr(directions, "_HouseholderBasis", lambda rows: slow.append(rows.shape) or householder(rows))
    for case, expected in {
        "trained": [],
        "rows of different lengths": [],
        "a steep up": [(32, 160)],
        "rows far from orthogonal": [(32, 300)],
        "rows that are zero": [(32, 300)],
    }.items():
        slow.clear()
        up, down = hard_cases()[case]
        directions.decompose_pairs(up[None], down[None])
        assert slow == expected, case


@pytest.mark.parametrize("part", ["lora_up.weight", "lora_down.weight"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bad_number_in_a_long_factor_is_named_too(tmp_path: Path, part: str, value: float):
    good, bad = (
        {f"{name}.lora_up.weight": torch.randn(96, 32), f"{name}.lora_down.weight": torch.randn(32, 300)}
        for name in ("good", "bad")
    )
    bad[f"bad.{part}"].view(-1)[77] = value
    with pytest.raises(WorkerError, match=f"bad.{part}") as caught:
        decomposed(tmp_path, good | bad)
    assert caught.value.kind == "non-finite"
    assert [path.name for path in tmp_path.iterdir()] == ["lora.safetensors"]


def test_factors_whose_product_is_too_large_are_refused(tmp_path: Path):
    lora = {"m.lora_up.weight": torch.full((4, 2), 1e30), "m.lora_down.weight": torch.full((2, 3), 1e30)}
    with pytest.raises(WorkerError, match='"m".*too large') as caught:
        decomposed(tmp_path, lora)
    assert caught.value.kind == "non-finite"


@pytest.mark.parametrize(
    ("up", "down"),
    [((4,), (2, 3)), ((4, 2, 3, 3), (2, 3)), ((0, 2), (2, 3)), ((4, 0), (0, 3)), ((), ())],
    ids=str,
)
def test_shapes_of_no_lora_are_refused(tmp_path: Path, up: tuple[int, ...], down: tuple[int, ...]):
    with pytest.raises(WorkerError, match="do not fit together"):
        decomposed(tmp_path, {"m.lora_up.weight": torch.ones(up), "m.lora_down.weight": torch.ones(down)})


def test_many_batches_come_into_one_file_whatever_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(1)
    lora = {}
    for index in range(12):
        up, down = torch.randn(8 + index % 3, 2), torch.randn(2, 9)
        lora |= {f"m{index}.lora_up.weight": up, f"m{index}.lora_down.weight": down}
    together = decomposed(tmp_path / "together", lora)
    monkeypatch.setattr(decompose, "_BATCH_BYTES", 1)
    decomposed(tmp_path / "apart", lora)
    one, two = (tmp_path / folder / "factors.safetensors" for folder in ("together", "apart"))
    assert one.read_bytes() == two.read_bytes()
    for index in range(12):
        change = lora[f"m{index}.lora_up.weight"].double() @ lora[f"m{index}.lora_down.weight"].double()
        expect_strongest(together, f"m{index}", change, 2)


def test_a_disk_that_fills_up_while_factors_are_written_fails_the_work_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(factors_file, "_FLUSH_EVERY", 1)
    monkeypatch.setattr(factors_file, "_have_the_disk_take", full)
    with pytest.raises(OSError, match="No space left"):
        decomposed(tmp_path, GOLDEN / "lora.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_nothing_that_only_pictures_need_is_imported():
    """It would take as long as the work."""
    code = (
        "import sys, lora_worker.worker, lora_worker.stages.decompose, lora_worker.stages.reference_numbers;"
        "print(sorted({'diffusers', 'transformers', 'PIL', 'safetensors', 'tensorboard'} & set(sys.modules)))"
    )
    folder = Path(__file__).parents[1]
    said = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"
