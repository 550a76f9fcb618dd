"""Families that are no LoRA, against ΔW multiplied out in double precision."""

from pathlib import Path

import pytest
import torch
from decompose_lab import decomposed, expect_lora_shapes, expect_strongest

from lora_worker.errors import WorkerError

LINEAR = "lora_unet_input_blocks_4_1_proj_in"
LINEAR_KEY = "model.diffusion_model.input_blocks.4.1.proj_in.weight"
CONV = "lora_unet_input_blocks_4_0_in_layers_2"
CONV_KEY = "model.diffusion_model.input_blocks.4.0.in_layers.2.weight"


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(3)


def named(module: str, **parts: torch.Tensor) -> dict[str, torch.Tensor]:
    """Parts as keyword arguments, `_weight` standing for `.weight`."""
    return {f"{module}.{part.replace('_weight', '.weight')}": tensor for part, tensor in parts.items()}


@pytest.mark.parametrize("rank", [2, 9], ids=["as factors", "multiplied out"])
@pytest.mark.parametrize("extract", [3, 500])
def test_a_loha_is_the_product_place_by_place(tmp_path: Path, rank: int, extract: int):
    a, b, c, d = torch.randn(30, rank), torch.randn(rank, 40), torch.randn(30, rank), torch.randn(rank, 40)
    lora = named(LINEAR, hada_w1_a=a, hada_w1_b=b, hada_w2_a=c, hada_w2_b=d, alpha=torch.tensor(0.5))
    found = decomposed(tmp_path, lora, extract=extract)
    change = 0.5 / rank * (a.double() @ b.double()) * (c.double() @ d.double())
    expect_strongest(found, LINEAR, change, min(extract, rank**2))
    expect_lora_shapes(found, LINEAR, (30, 40))
    assert found.facts[LINEAR]["family"] == "LoHa"


def test_a_loha_of_a_convolution_gets_the_kernel_that_its_name_says(tmp_path: Path):
    a, b, c, d = torch.randn(12, 2), torch.randn(2, 45), torch.randn(12, 2), torch.randn(2, 45)
    lora = named(CONV, hada_w1_a=a, hada_w1_b=b, hada_w2_a=c, hada_w2_b=d)
    found = decomposed(tmp_path, lora, extract=4)
    expect_strongest(found, CONV, (a.double() @ b.double()) * (c.double() @ d.double()), 4)
    expect_lora_shapes(found, CONV, (12, 5, 3, 3))


def test_the_base_says_a_kernel_that_the_name_does_not(tmp_path: Path):
    a, b, c, d = torch.randn(12, 2), torch.randn(2, 10), torch.randn(12, 2), torch.randn(2, 10)
    lora = named(LINEAR, hada_w1_a=a, hada_w1_b=b, hada_w2_a=c, hada_w2_b=d)
    found = decomposed(tmp_path, lora, extract=4, base={LINEAR_KEY: torch.ones(12, 10, 1, 1)})
    expect_lora_shapes(found, LINEAR, (12, 10, 1, 1))


def test_the_cores_of_a_tucker_loha_are_folded_in(tmp_path: Path):
    parts, change = {}, torch.ones(12, 5, 3, 3, dtype=torch.float64)
    for which in (1, 2):
        core, a, b = torch.randn(2, 2, 3, 3), torch.randn(2, 12), torch.randn(2, 5)
        parts |= {f"hada_t{which}": core, f"hada_w{which}_a": a, f"hada_w{which}_b": b}
        change *= torch.einsum("pqkl,po,qi->oikl", core.double(), a.double(), b.double())
    found = decomposed(tmp_path, named(CONV, **parts, alpha=torch.tensor(1.0)), extract=3)
    expect_strongest(found, CONV, 0.5 * change, 3)
    expect_lora_shapes(found, CONV, (12, 5, 3, 3))


def test_a_loha_may_have_one_core_beside_a_flat_product(tmp_path: Path):
    core, a, b = torch.randn(2, 2, 3, 3), torch.randn(2, 12), torch.randn(2, 5)
    c, d = torch.randn(12, 2), torch.randn(2, 45)
    whole = torch.einsum("pqkl,po,qi->oikl", core.double(), a.double(), b.double())
    change = whole * (c.double() @ d.double()).reshape(12, 5, 3, 3)
    for cored, flat in [("1", "2"), ("2", "1")]:
        parts = {f"hada_t{cored}": core, f"hada_w{cored}_a": a, f"hada_w{cored}_b": b}
        found = decomposed(tmp_path, named(CONV, **parts, **{f"hada_w{flat}_a": c, f"hada_w{flat}_b": d}), extract=3)
        expect_strongest(found, CONV, change, 3)


@pytest.mark.parametrize("extract", [2, 11, 500])
@pytest.mark.parametrize("first", ["whole", "product"])
@pytest.mark.parametrize("second", ["whole", "product", "tucker"])
def test_a_lokr_is_the_kronecker_product(tmp_path: Path, first: str, second: str, extract: int):
    parts: dict[str, torch.Tensor] = {}
    kernel = (3, 3) if second != "product" else ()
    if first == "whole":
        parts["lokr_w1"] = w1 = torch.randn(4, 3)
    else:
        parts |= {"lokr_w1_a": torch.randn(4, 2), "lokr_w1_b": torch.randn(2, 3)}
        w1 = parts["lokr_w1_a"] @ parts["lokr_w1_b"]
    if second == "whole":
        parts["lokr_w2"] = w2 = torch.randn(6, 5, *kernel)
    elif second == "product":
        parts |= {"lokr_w2_a": torch.randn(6, 2), "lokr_w2_b": torch.randn(2, 5)}
        w2 = parts["lokr_w2_a"] @ parts["lokr_w2_b"]
    else:
        parts |= {"lokr_t2": torch.randn(2, 2, 3, 3), "lokr_w2_a": torch.randn(2, 6), "lokr_w2_b": torch.randn(2, 5)}
        w2 = torch.einsum("pqkl,po,qi->oikl", parts["lokr_t2"], parts["lokr_w2_a"], parts["lokr_w2_b"])
    scale = 1 if (first, second) == ("whole", "whole") else 3 / 2
    whole = torch.kron(w1.double().reshape(4, 3, *(1 for _ in kernel)), w2.double().contiguous())
    found = decomposed(tmp_path, named(CONV, **parts, alpha=torch.tensor(3.0)), extract=extract)
    possible = (3 if first == "whole" else 2) * (6 if second == "whole" else 2)
    expect_strongest(found, CONV, scale * whole, min(extract, possible))
    expect_lora_shapes(found, CONV, (24, 15, *kernel))


@pytest.mark.parametrize("order", ["today's", "old"])
@pytest.mark.parametrize("rank", [2, 9], ids=["as factors", "multiplied out"])
def test_a_glora_is_made_of_the_base_weight(tmp_path: Path, rank: int, order: str):
    base = torch.randn(24, 30)
    a1, a2, b1, b2 = torch.randn(30, rank), torch.randn(rank, 30), torch.randn(24, rank), torch.randn(rank, 30)
    change = 2 / rank * (base.double() @ a1.double() @ a2.double() + b1.double() @ b2.double())
    if order == "old":
        a1, a2, b1, b2 = a2, a1, b2, b1
    lora = named(LINEAR, a1_weight=a1, a2_weight=a2, b1_weight=b1, b2_weight=b2, alpha=torch.tensor(2.0))
    found = decomposed(tmp_path, lora, extract=16, base={LINEAR_KEY: base})
    expect_strongest(found, LINEAR, change, min(16, 2 * rank))
    expect_lora_shapes(found, LINEAR, (24, 30))
    assert found.facts[LINEAR]["family"] == "GLoRA"


@pytest.mark.parametrize("out", [24, 200], ids=["multiplied out", "as factors"])
def test_a_glora_of_a_convolution_turns_every_place_of_the_kernel(tmp_path: Path, out: int):
    base = torch.randn(out, 25, 3, 3)
    a1, a2 = torch.randn(25, 2, 1, 1), torch.randn(2, 25, 1, 1)
    b1, b2 = torch.randn(out, 2, 1, 1), torch.randn(2, 25, 3, 3)
    turn = a1.flatten(1).double() @ a2.flatten(1).double()
    change = torch.einsum("oikl,ij->ojkl", base.double(), turn) + torch.einsum(
        "or,rikl->oikl", b1.flatten(1).double(), b2.double()
    )
    lora = named(CONV, a1_weight=a1, a2_weight=a2, b1_weight=b1, b2_weight=b2)
    found = decomposed(tmp_path, lora, extract=8, base={CONV_KEY: base})
    expect_strongest(found, CONV, change, 8)
    expect_lora_shapes(found, CONV, (out, 25, 3, 3))


def glora(into: int = 5) -> dict[str, torch.Tensor]:
    a, b = torch.randn(into, 2), torch.randn(4, 2)
    return named(LINEAR, a1_weight=a, a2_weight=a.T, b1_weight=b, b2_weight=a.T)


@pytest.mark.parametrize("base", [None, {CONV_KEY: torch.ones(2, 2, 3, 3)}])
def test_a_glora_without_its_base_weight_is_refused(tmp_path: Path, base):
    with pytest.raises(WorkerError, match=f'"{LINEAR}".* is a GLoRA.*base weight') as caught:
        decomposed(tmp_path, glora(), extract=4, base=base)
    assert caught.value.kind == "bad-input" and "base" in (caught.value.hint or "")


@pytest.mark.parametrize("shape", [(4, 6), (3, 5), (4, 5, 3, 3)], ids=str)
def test_a_glora_for_another_base_is_refused_with_the_shapes(tmp_path: Path, shape: tuple[int, ...]):
    with pytest.raises(WorkerError, match=r"a1.weight \[5, 2\].*base weight") as caught:
        decomposed(tmp_path, glora(), extract=4, base={LINEAR_KEY: torch.ones(shape)})
    assert caught.value.kind == "bad-input" and str(list(shape)) in caught.value.message


def test_the_core_of_a_glora_lies_between_its_second_pair(tmp_path: Path):
    base = torch.randn(12, 5, 3, 3)
    a1, a2, b1, b2 = torch.randn(5, 2), torch.randn(2, 5), torch.randn(12, 2), torch.randn(2, 5)
    core = torch.randn(2, 2, 3, 3)
    change = torch.einsum("oikl,ij->ojkl", base.double(), a1.double() @ a2.double()) + torch.einsum(
        "op,pqkl,qi->oikl", b1.double(), core.double(), b2.double()
    )
    lora = named(CONV, a1_weight=a1, a2_weight=a2, b1_weight=b1, b2_weight=b2, bm_weight=core)
    found = decomposed(tmp_path, lora, extract=6, base={CONV_KEY: base})
    expect_strongest(found, CONV, change, 6)
    with pytest.raises(WorkerError, match="do not fit together"):
        decomposed(tmp_path, lora | named(CONV, bm_weight=core[:, :, :2]), extract=6, base={CONV_KEY: base})


@pytest.mark.parametrize("shape", [(20, 30), (30, 20), (8, 5, 3, 3), (1, 7), (7, 1)])
@pytest.mark.parametrize("extract", [1, 6, 500])
def test_a_difference_of_checkpoints_keeps_its_strongest_directions(tmp_path: Path, shape, extract: int):
    diff = torch.randn(*shape)
    lora = named(LINEAR, diff=diff.half(), diff_b=torch.ones(shape[0]), alpha=torch.tensor(7.0))
    found = decomposed(tmp_path, lora, extract=extract)
    expect_strongest(found, LINEAR, diff.half(), extract)
    expect_lora_shapes(found, LINEAR, shape)
    assert found.facts[LINEAR]["family"] == "full"


@pytest.mark.parametrize(
    "diff",
    [
        torch.zeros(6, 8),
        torch.ones(6, 8),
        torch.diag(torch.logspace(0, -7, 8)),
        torch.eye(8),
        1e-18 * torch.eye(8),
    ],
    ids=["zero", "rank one", "steep", "all alike", "tiny"],
)
def test_directions_are_orthonormal_even_where_there_is_no_strength(tmp_path: Path, diff: torch.Tensor):
    found = decomposed(tmp_path, named(LINEAR, diff=diff), extract=5)
    for part in ("u", "vt"):
        rows = found.factors[f"{LINEAR}.{part}"]
        torch.testing.assert_close(rows @ rows.T, torch.eye(5), rtol=0, atol=1e-5)
    expected = torch.linalg.svdvals(diff.double())[:5].float()
    torch.testing.assert_close(found.factors[f"{LINEAR}.s"], expected, rtol=1e-3, atol=1e-7 * float(diff.abs().max()))


def test_families_mixed_in_one_file_come_with_their_own_facts(tmp_path: Path):
    lora = {
        **named("lora_unet_a", diff=torch.randn(6, 8)),
        **named("lora_unet_b", lora_up_weight=torch.randn(6, 2), lora_down_weight=torch.randn(2, 8)),
        **named("lora_unet_c", lokr_w1=torch.randn(2, 2), lokr_w2=torch.randn(3, 4)),
        **named("lora_unet_d", w_norm=torch.randn(6)),
    }
    found = decomposed(tmp_path, lora, extract=3)
    assert {name: (facts["family"], facts["rank"]) for name, facts in found.facts.items()} == {
        "lora_unet_a": ("full", 3),
        "lora_unet_b": ("LoRA", 2),
        "lora_unet_c": ("LoKr", 3),
    }
    assert found.skipped == {"lora_unet_d": "a norm has no directions"}
    assert found.job.of_type("progress")[-1]["done"] == 3


def test_what_could_be_extracted_is_refused_with_that_hint_where_there_is_nothing_else(tmp_path: Path):
    with pytest.raises(WorkerError) as caught:
        decomposed(tmp_path, named(LINEAR, diff=torch.ones(2, 2)))
    assert caught.value.hint == "Give extract = 64 to make LoRA modules of what it has."
    with pytest.raises(WorkerError, match="0 directions"):
        decomposed(tmp_path, named(LINEAR, diff=torch.ones(2, 2)), extract=0)


FACTORS = {"hada_w1_a": (4, 2), "hada_w1_b": (2, 6), "hada_w2_a": (4, 2), "hada_w2_b": (2, 6)}
TUCKER = {**FACTORS, "hada_w1_a": (2, 4), "hada_w2_a": (2, 4), "hada_t1": (2, 2, 3, 3), "hada_t2": (2, 2, 3, 3)}


@pytest.mark.parametrize(
    "shapes",
    [
        {**FACTORS, "hada_w1_b": (3, 6)},
        {**FACTORS, "hada_w2_b": (2, 5)},
        {**FACTORS, "hada_w1_a": (4,)},
        {**FACTORS, "hada_w1_a": (4, 0), "hada_w1_b": (0, 6)},
        {key: shape for key, shape in FACTORS.items() if key != "hada_w2_b"},
        {**TUCKER, "hada_t1": (2, 3, 3, 3)},
        {**TUCKER, "hada_t2": (2,)},
        {**TUCKER, "hada_t2": (2, 2, 1, 1)},
        {"lokr_w1": (4,), "lokr_w2": (4, 4)},
        {"lokr_w1": (0, 4), "lokr_w2": (4, 4)},
        {"lokr_w1_a": (4, 2), "lokr_w2": (4, 4)},
        {"lokr_w1": (2, 2)},
        {"lokr_w1": (2, 2), "lokr_w2_a": (4, 2), "lokr_w2_b": (3, 4)},
        {"diff": (5,)},
        {"diff": (5, 0)},
        {"diff": ()},
    ],
    ids=str,
)
def test_shapes_that_do_not_fit_together_are_refused_by_name(tmp_path: Path, shapes: dict[str, tuple[int, ...]]):
    lora = named(LINEAR, **{part: torch.ones(shape) for part, shape in shapes.items()})
    with pytest.raises(WorkerError, match=f'"{LINEAR}".*do not fit together') as caught:
        decomposed(tmp_path, lora, extract=4)
    assert caught.value.kind == "bad-input"


@pytest.mark.parametrize("part", ["diff", "lokr_w2", "hada_w2_b"])
def test_a_number_that_is_not_finite_is_refused_by_the_name_of_its_tensor(tmp_path: Path, part: str):
    families = {
        "diff": {"diff": (4, 4)},
        "lokr_w2": {"lokr_w1": (2, 2), "lokr_w2": (2, 2)},
        "hada_w2_b": FACTORS,
    }
    tensors = {name: torch.ones(shape) for name, shape in families[part].items()}
    tensors[part].view(-1)[1] = float("inf")
    with pytest.raises(WorkerError, match=f"{LINEAR}.{part}") as caught:
        decomposed(tmp_path, named(LINEAR, **tensors), extract=4)
    assert caught.value.kind == "non-finite"


def test_finite_factors_whose_product_is_not_are_refused(tmp_path: Path):
    tensors = {name: torch.full(shape, 1e30) for name, shape in FACTORS.items()}
    with pytest.raises(WorkerError, match="too large") as caught:
        decomposed(tmp_path, named(LINEAR, **tensors), extract=4)
    assert caught.value.kind == "non-finite"
