"""The rules between names, over the published model's whole table and without any weights."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from test_architecture import SDXL
from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPTextModelWithProjection

from lora_worker.architecture import read_architecture
from lora_worker.models import _placed_shape, _text_config, _unet_config, _vae_config
from lora_worker.naming import LoraTarget, lora_targets, placements, unet_module
from lora_worker.vae_naming import vae_module

FIXTURES = Path(__file__).parents[2] / "test" / "fixtures"


@pytest.fixture(scope="module")
def sdxl_shapes():
    parts = json.loads((FIXTURES / "sdxl-keys.json").read_text())
    return {name: tuple(shape) for part in parts.values() for name, shape in part.items()}


@pytest.fixture(scope="module")
def live_modules():
    """The published model as libraries name it, without memory behind it."""
    with torch.device("meta"):
        return {
            "unet": UNet2DConditionModel(**_unet_config(SDXL)),
            "te1": CLIPTextModel(_text_config(SDXL.te1, "quick_gelu", 768)),
            "te2": CLIPTextModelWithProjection(_text_config(SDXL.te2, "gelu", 1280)),
            "vae": AutoencoderKL(**_vae_config(SDXL.vae)),
        }


def test_every_tensor_of_the_published_model_has_one_place_and_every_place_one_tensor(sdxl_shapes, live_modules):
    flat = not hasattr(live_modules["te1"], "text_model")
    needed_shapes = {
        (component, name): tuple(tensor.shape)
        for component, model in live_modules.items()
        for name, tensor in model.state_dict().items()
    }
    placed = Counter()
    for key, shape in sdxl_shapes.items():
        found = placements(key)
        assert found is not None, key
        for placement in found:
            name = placement.name
            if placement.component == "te1" and flat:
                name = name.removeprefix("text_model.")
            assert _placed_shape(shape, placement) == needed_shapes[placement.component, name], key
            placed[placement.component, name] += 1
    assert set(placed.values()) == {1}
    assert placed.keys() == needed_shapes.keys()


def test_lora_targets_are_those_of_the_reference_trainer(sdxl_shapes):
    rows = json.loads((FIXTURES / "sdxl-lora-modules.json").read_text())
    wanted = {
        row["lora_key"]: LoraTarget(
            name=row["lora_key"],
            component=row["lora_key"].split("_")[1],
            module_path=row["diffusers_key"],
            kind=row["kind"],
            in_features=row["in"],
            out_features=row["out"],
            stride=row.get("stride", 1),
            padding=row.get("padding", 0),
            ldm_key=row["ldm_key"],
            ldm_rows=tuple(row["ldm_rows"]) if "ldm_rows" in row else None,
        )
        for row in rows
    }
    targets = lora_targets(read_architecture(sdxl_shapes, name="sdxl"), te1_has_inner_model=True)
    assert {target.name: target for target in targets} == wanted
    assert len(targets) == len(wanted) == 1052
    # Text encoders first; inside each component in the reference's order.
    order = [row["lora_key"] for row in rows]
    text_first = [name for name in order if "_te" in name[:8]] + [name for name in order if "_unet_" in name[:10]]
    assert [target.name for target in targets] == text_first


def test_targets_lead_to_live_modules_of_their_kind(live_modules):
    flat = not hasattr(live_modules["te1"], "text_model")
    for target in lora_targets(SDXL, te1_has_inner_model=not flat):
        module = live_modules[target.component].get_submodule(target.module_path)
        if target.kind == "linear":
            assert (module.in_features, module.out_features) == (target.in_features, target.out_features)
        else:
            assert (module.in_channels, module.out_channels) == (target.in_features, target.out_features)
            assert module.kernel_size == ((3, 3) if target.kind == "conv3x3" else (1, 1))
            assert (module.stride, module.padding) == ((target.stride,) * 2, (target.padding,) * 2)


def test_names_of_text_encoder_1_do_not_depend_on_the_library_version():
    old = lora_targets(SDXL, te1_has_inner_model=True)
    new = lora_targets(SDXL, te1_has_inner_model=False)
    assert [target.name for target in old] == [target.name for target in new]
    assert new[0].module_path == "encoder.layers.0.self_attn.k_proj"
    assert old[0].module_path == "text_model.encoder.layers.0.self_attn.k_proj"


def test_text_encoder_1_is_found_under_both_spellings():
    prefix = "conditioner.embedders.0.transformer."
    name = "encoder.layers.3.mlp.fc1.weight"
    assert placements(f"{prefix}{name}") == placements(f"{prefix}text_model.{name}")


def test_the_fused_projection_is_split_into_q_k_v_in_that_order():
    found = placements("conditioner.embedders.1.model.transformer.resblocks.5.attn.in_proj_weight")
    assert [(placement.name.split(".")[-2], placement.part) for placement in found] == [
        ("q_proj", 0),
        ("k_proj", 1),
        ("v_proj", 2),
    ]


def test_the_text_projection_is_transposed():
    (placement,) = placements("conditioner.embedders.1.model.text_projection")
    assert (placement.name, placement.change) == ("text_projection.weight", "transpose")


@pytest.mark.parametrize(
    "key",
    [
        "conditioner.embedders.0.transformer.text_model.embeddings.position_ids",
        "conditioner.embedders.1.model.logit_scale",
        "model_ema.decay",
        "denoiser.sigmas",
        "v_pred",
        "ztsnr",
        "alphas_cumprod",
    ],
)
def test_leftovers_are_known_and_not_needed(key):
    assert placements(key) == ()


@pytest.mark.parametrize(
    "key",
    [
        "model.diffusion_model.input_blocks.4.2.conv.weight",
        "model.diffusion_model.input_blocks.9.0.in_layers.0.weight",
        "model.diffusion_model.output_blocks.9.0.in_layers.0.weight",
        "model.diffusion_model.middle_block.3.in_layers.0.weight",
        "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn3.to_q.weight",
        "conditioner.embedders.0.transformer.text_model.encoder.layers.0.self_attn.qkv.weight",
        "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj.adapter",
        "first_stage_model.encoder.up.0.block.0.conv1.weight",
        "first_stage_model.decoder.up.4.block.0.conv1.weight",
        "something.else",
    ],
)
def test_unknown_tensors_are_nobodys(key):
    assert placements(key) is None


def test_module_rules_know_where_they_end():
    assert unet_module("input_blocks.0.1") is None
    assert unet_module("output_blocks.2.2.conv") == "up_blocks.0.upsamplers.0.conv"
    assert vae_module("decoder.up.0.block.2.nin_shortcut") == "decoder.up_blocks.3.resnets.2.conv_shortcut"
    assert vae_module("elsewhere.conv_in") is None
