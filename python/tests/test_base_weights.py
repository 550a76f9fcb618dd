import json
from pathlib import Path

import pytest
import torch

from lora_worker.base_names import adapted_by
from lora_worker.base_weights import Base, read_base_weight
from lora_worker.errors import WorkerError
from lora_worker.safetensors_file import write_safetensors

MODULES = json.loads((Path(__file__).parents[2] / "test" / "fixtures" / "sdxl-lora-modules.json").read_text())
LAYER = "text_model.encoder.layers.0"


def written(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_safetensors(path, tensors)
    return path


def filled(value: float, *shape: int) -> torch.Tensor:
    return torch.full(shape or (2, 3), value)


def values(*paths: Path) -> dict[str, float]:
    """The first number of every weight that a base gives, by module."""
    with Base(paths) as base:
        return {name: float(read_base_weight(weight)[0, 0]) for name, weight in base.weights.items()}


def test_every_module_of_sdxl_is_found_in_a_checkpoint_and_in_a_diffusers_folder():
    for module in MODULES:
        encoder = "te2" if module["lora_key"].startswith("lora_te2") else "te1"
        for key in (module["ldm_key"], f"{module['diffusers_key']}.weight"):
            assert module["lora_key"] in [name for rows in adapted_by(key, encoder) for name in rows.names], key


def test_both_spellings_of_a_base_give_both_names_of_each_unet_module(tmp_path: Path):
    for name, key in {
        "ldm": "model.diffusion_model.output_blocks.0.1.proj_in.weight",
        "diffusers": "up_blocks.0.attentions.0.proj_in.weight",
        "prefixed": "unet.up_blocks.0.attentions.0.proj_in.weight",
    }.items():
        found = values(written(tmp_path / f"{name}.safetensors", {key: filled(7)}))
        assert found == {
            "lora_unet_output_blocks_0_1_proj_in": 7,
            "lora_unet_up_blocks_0_attentions_0_proj_in": 7,
        }


def test_the_text_encoders_of_a_diffusers_folder_are_told_apart_by_their_folders(tmp_path: Path):
    folder = tmp_path / "sdxl"
    found = values(
        written(folder / "unet" / "u-00001-of-00002.safetensors", {"conv_in.weight": filled(1, 2, 3, 3, 3)}),
        written(folder / "unet" / "u-00002-of-00002.safetensors", {"conv_out.weight": filled(2, 2, 3, 3, 3)}),
        written(folder / "text_encoder" / "m.safetensors", {f"{LAYER}.mlp.fc1.weight": filled(3)}),
        written(folder / "text_encoder_2" / "m.safetensors", {f"{LAYER}.mlp.fc1.weight": filled(4)}),
    )
    assert found["lora_unet_input_blocks_0_0"] == 1 and found["lora_unet_out_2"] == 2
    assert found["lora_te1_text_model_encoder_layers_0_mlp_fc1"] == 3
    assert found["lora_te2_text_model_encoder_layers_0_mlp_fc1"] == 4


def test_a_text_encoder_without_a_folder_is_known_by_its_projection(tmp_path: Path):
    # A recent transformers writes its plain model without the inner name.
    first = written(tmp_path / "a.safetensors", {"encoder.layers.0.mlp.fc1.weight": filled(3)})
    second = written(
        tmp_path / "b.safetensors", {f"{LAYER}.mlp.fc1.weight": filled(4), "text_projection.weight": filled(5)}
    )
    assert values(first, second) == {
        "lora_te1_text_model_encoder_layers_0_mlp_fc1": 3,
        "lora_te_text_model_encoder_layers_0_mlp_fc1": 3,
        "lora_te2_text_model_encoder_layers_0_mlp_fc1": 4,
        "lora_te2_text_projection": 5,
    }


def test_the_only_text_encoder_of_older_models_is_found_in_both_spellings(tmp_path: Path):
    one = {"cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight": filled(1)}
    two = {"cond_stage_model.model.transformer.resblocks.0.mlp.c_fc.weight": filled(2)}
    module = "lora_te_text_model_encoder_layers_0_mlp_fc1"
    assert values(written(tmp_path / "one.safetensors", one))[module] == 1
    assert values(written(tmp_path / "two.safetensors", two))[module] == 2
    blocks = {"model.diffusion_model.output_blocks.11.1.proj_out.weight": filled(3, 2, 3, 1, 1)}
    found = values(written(tmp_path / "unet.safetensors", blocks))
    assert found["lora_unet_up_blocks_3_attentions_2_proj_out"] == 3


@pytest.mark.parametrize("part", ["q", "k", "v"])
def test_a_fused_projection_gives_each_module_its_own_rows(tmp_path: Path, part: str):
    own = {"q": torch.randn(4, 4), "k": 10 * torch.randn(4, 4), "v": 100 * torch.randn(4, 4)}
    key = "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight"
    with Base([written(tmp_path / "base.safetensors", {key: torch.cat(list(own.values()))})]) as base:
        weight = base.weights[f"lora_te2_text_model_encoder_layers_0_self_attn_{part}_proj"]
        assert weight.shape == (4, 4)
        assert torch.equal(read_base_weight(weight), own[part])


def test_the_text_projection_is_turned_where_the_checkpoint_has_it_the_other_way(tmp_path: Path):
    projection = torch.randn(4, 6)
    single = written(tmp_path / "base.safetensors", {"conditioner.embedders.1.model.text_projection": projection})
    folder = written(tmp_path / "text_encoder_2" / "m.safetensors", {"text_projection.weight": projection.T})
    for path in (single, folder):
        with Base([path]) as base:
            weight = base.weights["lora_te2_text_projection"]
            assert weight.shape == (6, 4)
            assert torch.equal(read_base_weight(weight), projection.T)


def test_weights_come_in_the_order_of_the_disk_and_each_once(tmp_path: Path):
    fused = "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight"
    proj_in = "model.diffusion_model.input_blocks.4.1.proj_in.weight"
    layer = "lora_te2_text_model_encoder_layers_0_self_attn"
    names = ["lora_unet_input_blocks_4_1_proj_in", "lora_unet_down_blocks_1_attentions_0_proj_in"]
    with Base([written(tmp_path / "base.safetensors", {fused: filled(1, 6, 2), proj_in: filled(2)})]) as base:
        ordered = base.by_place([*names, f"{layer}_v_proj", "lora_unet_nothing", f"{layer}_q_proj"])
    assert [modules for _, modules in ordered] == [[f"{layer}_q_proj"], [f"{layer}_v_proj"], names]


def test_no_file_and_a_file_that_is_none_are_refused(tmp_path: Path):
    with pytest.raises(WorkerError, match="at least one file"):
        Base([])
    good = written(tmp_path / "good.safetensors", {"conv_in.weight": filled(1)})
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    with pytest.raises(WorkerError, match=r"bad\.safetensors"):
        Base([good, tmp_path / "bad.safetensors"])
