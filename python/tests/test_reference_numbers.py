import json
import math
from pathlib import Path

import pytest
import torch
from support import RecordingJob

from lora_worker.errors import WorkerError
from lora_worker.safetensors_file import read_safetensors, write_safetensors
from lora_worker.stages import decompose, reference_numbers

GOLDEN = Path(__file__).parents[2] / "test" / "fixtures" / "golden" / "resize"


def numbers_of(op: str, folder: Path, checkpoint: Path, modules: list[str], factors: Path | None = None):
    (folder / "names.json").write_text(json.dumps(modules))
    job = RecordingJob()
    work = reference_numbers.parse(
        {
            "op": op,
            "checkpoints": [str(checkpoint)],
            "modules": str(folder / "names.json"),
            "factors": None if factors is None else str(factors),
            "output": str(folder / f"{op}.json"),
        }
    )
    outputs = reference_numbers.run(work, job)
    return json.loads(Path(outputs["numbers"]).read_text()), job


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    """The golden LoRA's factors and modules, and its base."""
    folder = tmp_path_factory.mktemp("golden")
    work = decompose.Decompose(
        str(GOLDEN / "lora.safetensors"), None, None, str(folder / "factors.safetensors"), str(folder / "modules.json")
    )
    decompose.run(work, RecordingJob())
    return folder / "factors.safetensors", json.loads((folder / "modules.json").read_text())


def test_the_numbers_of_the_golden_base_equal_those_computed_outright(tmp_path: Path, golden):
    factors_path, modules = golden
    base, _ = read_safetensors(GOLDEN / "base.safetensors")
    factors, _ = read_safetensors(factors_path)
    checkpoint = GOLDEN / "base.safetensors"
    frobenius, _ = numbers_of("frobenius", tmp_path, checkpoint, modules)
    spectral, _ = numbers_of("spectral", tmp_path, checkpoint, modules)
    projections, _ = numbers_of("projections", tmp_path, checkpoint, modules, factors_path)
    assert sorted(frobenius) == sorted(spectral) == sorted(projections) == modules
    for name, key in {
        "lora_unet_input_blocks_4_0_in_layers_2": "model.diffusion_model.input_blocks.4.0.in_layers.2.weight",
        "lora_unet_output_blocks_1_1_transformer_blocks_0_attn1_to_q": (
            "model.diffusion_model.output_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
        ),
        "lora_te1_text_model_encoder_layers_0_mlp_fc1": (
            "conditioner.embedders.0.transformer.text_model.encoder.layers.0.mlp.fc1.weight"
        ),
        "lora_te2_text_model_encoder_layers_3_mlp_fc2": (
            "conditioner.embedders.1.model.transformer.resblocks.3.mlp.c_proj.weight"
        ),
    }.items():
        weight = base[key].double().flatten(1)
        assert frobenius[name] == pytest.approx(float(weight.norm()), rel=1e-6)
        assert spectral[name] == pytest.approx(float(torch.linalg.svdvals(weight)[0]), rel=1e-5)
        u, vt = factors[f"{name}.u"].double(), factors[f"{name}.vt"].double()
        expected = torch.diagonal(u @ weight @ vt.T).abs()
        assert projections[name] == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-6)


def test_a_norm_keeps_its_digits_over_many_numbers(tmp_path: Path):
    weight = torch.randn(1300, 1280, generator=torch.Generator().manual_seed(1)).half()
    key, module = "model.diffusion_model.input_blocks.4.1.proj_in.weight", "lora_unet_input_blocks_4_1_proj_in"
    large = {key: weight.float() * 1e30}
    write_safetensors(tmp_path / "base.safetensors", {key: weight}, {})
    write_safetensors(tmp_path / "large.safetensors", large, {})
    numbers, _ = numbers_of("frobenius", tmp_path, tmp_path / "base.safetensors", [module])
    assert numbers[module] == pytest.approx(float(weight.double().norm()), rel=1e-5)
    numbers, _ = numbers_of("frobenius", tmp_path, tmp_path / "large.safetensors", [module])
    assert numbers[module] == pytest.approx(float(large[key].double().norm()), rel=1e-5)


RECIPES = json.loads((GOLDEN / "expected.json").read_text())


@pytest.mark.parametrize("number", [n for n, recipe in enumerate(RECIPES) if "size" not in recipe["recipe"]])
def test_choosing_by_the_numbers_gives_the_golden_resize(tmp_path: Path, golden, number: int):
    """The recipe's arithmetic in a few obvious lines, on our factors and numbers."""
    factors_path, modules = golden
    recipe = dict(part.partition("=")[::2] for part in RECIPES[number]["recipe"].split(","))
    threshold = float(recipe.pop("thr"))
    rescale = float(recipe.pop("rescale", 1))
    weights = {key: float(value or 1) for key, value in recipe.items()}
    factors, metadata = read_safetensors(factors_path)
    facts = json.loads(metadata["lorac.modules"])
    deltas, _ = read_safetensors(GOLDEN / "expected-deltas.safetensors")
    numbers = {
        key: numbers_of(op, tmp_path, GOLDEN / "base.safetensors", modules, factors_path)[0]
        for key, op in {"fro_ckpt": "frobenius", "spn_ckpt": "spectral", "subspace": "projections"}.items()
        if key in weights
    }
    kept = {}
    for module in modules:
        u, s, vt = (factors[f"{module}.{part}"].double() for part in ("u", "s", "vt"))
        if s[0] < 1e-6:
            continue
        references = {
            "spn_lora": s[0],
            "fro_lora": s.norm(),
            "params": torch.tensor(facts[module]["up_shape"][0] + math.prod(facts[module]["down_shape"][1:])),
        } | {key: torch.tensor(values[module]) for key, values in numbers.items()}
        total = sum(weights.values())
        score = (s * rescale).log10() - sum(weights[key] / total * references[key].log10() for key in weights)
        chosen = score >= threshold
        if chosen.any():
            kept[module] = int(chosen.sum())
            ours = (u[chosen].T * s[chosen] * rescale) @ vt[chosen]
            theirs = deltas[f"{number}/{module}"].double()
            assert float((ours - theirs).norm() / theirs.norm()) < 1e-4
    assert kept == RECIPES[number]["ranks"]


def test_thirds_of_a_fused_projection_are_q_k_v_in_this_order(tmp_path: Path):
    layer = "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight"
    fused = torch.cat([torch.eye(4), 10 * torch.eye(4), 100 * torch.eye(4)]).half()
    write_safetensors(tmp_path / "base.safetensors", {layer: fused})
    names = [f"lora_te2_text_model_encoder_layers_0_self_attn_{part}_proj" for part in "qkv"]
    numbers, _ = numbers_of("frobenius", tmp_path, tmp_path / "base.safetensors", names)
    assert [numbers[name] for name in names] == pytest.approx([2, 20, 200])


def test_both_ways_to_name_a_unet_module_find_its_weight(tmp_path: Path):
    key = "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q.weight"
    write_safetensors(tmp_path / "base.safetensors", {key: torch.full((2, 2), 3.0)})
    names = [
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q",
        "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q",
    ]
    numbers, _ = numbers_of("frobenius", tmp_path, tmp_path / "base.safetensors", names)
    assert list(numbers.values()) == pytest.approx([6, 6])


def test_modules_without_a_base_weight_are_left_out_with_a_warning(tmp_path: Path):
    names = ["lora_unet_input_blocks_4_0_in_layers_2", "lora_unet_nothing"]
    numbers, job = numbers_of("frobenius", tmp_path, GOLDEN / "base.safetensors", names)
    assert list(numbers) == names[:1]
    assert job.warnings == [f'1 modules have no weight in "{GOLDEN / "base.safetensors"}": lora_unet_nothing.']


def gaussian(rows: int, columns: int) -> torch.Tensor:
    """Close singular values at the top: the hard case."""
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize(
    "matrix",
    [
        gaussian(640, 640),
        gaussian(320, 2880),
        gaussian(2560, 640),
        gaussian(300, 4) @ gaussian(4, 300),
        torch.eye(256),
        torch.zeros(256, 300),
        torch.diag(torch.cat([torch.tensor([1.0, 0.99999]), torch.linspace(0, 0.9, 254)])),
        1e-4 * gaussian(400, 400) + torch.ones(400, 1) @ torch.ones(1, 400),
    ],
    ids=["square", "wide", "tall", "low-rank", "identity", "zero", "two-close", "one-strong"],
)
def test_the_spectral_norm_is_the_largest_singular_value(matrix: torch.Tensor):
    expected = float(torch.linalg.svdvals(matrix.double())[0])
    assert reference_numbers.spectral_norm(matrix) == pytest.approx(expected, rel=1e-5, abs=1e-12)


def test_a_base_weight_that_is_not_finite_is_refused_by_name(tmp_path: Path):
    key = "model.diffusion_model.input_blocks.1.0.in_layers.2.weight"
    write_safetensors(tmp_path / "base.safetensors", {key: torch.full((2, 2, 3, 3), float("inf"))})
    with pytest.raises(WorkerError, match=key) as caught:
        numbers_of("spectral", tmp_path, tmp_path / "base.safetensors", ["lora_unet_input_blocks_1_0_in_layers_2"])
    assert caught.value.kind == "non-finite"


def test_a_lora_for_other_shapes_is_refused_with_both_shapes(tmp_path: Path, golden):
    factors_path, _ = golden
    key = "model.diffusion_model.input_blocks.4.0.in_layers.2.weight"
    write_safetensors(tmp_path / "base.safetensors", {key: torch.ones(2, 2, 3, 3)})
    with pytest.raises(WorkerError, match="2 x 18"):
        numbers_of(
            "projections",
            tmp_path,
            tmp_path / "base.safetensors",
            ["lora_unet_input_blocks_4_0_in_layers_2"],
            factors_path,
        )
