"""Which layers a network adapts: presets, patterns of names, and ranks by block."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from training_lab import TrainingLab, share_models

from lora_worker.architecture import UNetShape
from lora_worker.blocks import number_of
from lora_worker.errors import WorkerError
from lora_worker.naming import norm_targets
from lora_worker.network_settings import NetworkSettings, Ranks
from lora_worker.network_targets import chosen_targets, trainable, with_single_layers
from lora_worker.safetensors_file import read_safetensors
from lora_worker.stages import train
from lora_worker.train_request import parse_train

MODULES = json.loads((Path(__file__).parents[2] / "test" / "fixtures" / "sdxl-lora-modules.json").read_text())
# All that choosing looks at.
SDXL = [
    SimpleNamespace(name=module["lora_key"], component=module["lora_key"].split("_")[1], kind=module["kind"])
    for module in MODULES
]
WITH_NORMS = [
    *SDXL,
    *norm_targets(
        SimpleNamespace(
            unet=UNetShape(
                widths=(320, 640, 1280), depths=(0, 2, 10), context_width=2048, time_width=1280, vector_width=2816
            )
        )
    ),
]
ALL = frozenset({"unet", "te1", "te2"})
RANKS = Ranks(dim=8, alpha=4, conv_dim=256, conv_alpha=4)


def chosen(components=ALL, ranks=RANKS, **settings):
    return chosen_targets(SDXL, NetworkSettings(ranks, **settings), components)


def test_only_the_last_layer_of_text_encoder_1_is_left_out_of_sdxl():
    kept = {target.name for target in trainable(SDXL)}
    left_out = [target.name for target in SDXL if target.name not in kept]
    assert len(left_out) == 6
    assert all(name.startswith("lora_te1_text_model_encoder_layers_11_") for name in left_out)
    assert [target.name for target in chosen()] == [target.name for target in SDXL if target.name in kept]


@pytest.mark.parametrize(
    ("preset", "unet", "text"),
    [("full", 788, 258), ("attn-mlp", 722, 258), ("attn-only", 560, 172), ("unet-only", 788, 0)],
)
def test_presets_are_the_layers_that_lycoris_wraps(preset, unet, text):
    """By its lists of classes: all of Transformer2DModel, and the eight linears of both CrossAttentions per layer. Of
    each text encoder layer six or, without the MLP, four; but for the last of encoder 1."""
    targets = chosen(preset=preset)
    counts = Counter(target.component == "unet" for target in targets)
    assert (counts[True], counts[False]) == (unet, text)
    if preset.startswith("attn"):
        assert {target.kind for target in targets} == {"linear"}


def test_the_text_encoders_of_old_versions_have_only_their_mlps():
    names = [target.name for target in chosen(text_encoder_modules="mlp") if target.component != "unet"]
    assert len(names) == 2 * (11 + 32)
    assert all(name.endswith(("_mlp_fc1", "_mlp_fc2")) for name in names)
    assert len(chosen(text_encoder_modules="mlp")) == 788 + len(names)


def test_patterns_choose_among_the_layers_of_the_preset():
    found = chosen(preset="attn-mlp", modules=("lora_unet_output_blocks_1_*", "*_te2_*layers_3?_mlp_fc1"))
    assert {target.name for target in found} == {
        *(target.name for target in SDXL if target.name.startswith("lora_unet_output_blocks_1_1_")),
        *(f"lora_te2_text_model_encoder_layers_{layer}_mlp_fc1" for layer in (30, 31)),
    }


@pytest.mark.parametrize(
    ("pattern", "near"),
    [
        ("lora_unet_output_block_1_*", "lora_unet_output_blocks_1_"),
        ("*attn2_to_key", "attn2_to_k"),
        ("lora_te_text_model_encoder_layers_3_mlp_fc1", "lora_te1_text_model_encoder_layers_3_mlp_fc1"),
    ],
)
def test_a_pattern_that_fits_nothing_is_refused_with_names_that_are_near(pattern, near):
    with pytest.raises(WorkerError, match=near) as error:
        chosen(modules=("lora_unet_*", pattern))
    assert error.value.kind == "bad-input" and f'"{pattern}"' in error.value.message


def test_norms_are_chosen_like_layers_where_they_are_trained(toy_models):
    norms = norm_targets(toy_models.architecture)
    offered = (*toy_models.targets(), *norms)

    def found(**settings):
        targets = chosen_targets(offered, NetworkSettings(RANKS, train_norm=True, **settings), ALL)
        return {target.name for target in targets if target.kind == "norm"}

    names = {target.name for target in norms}
    inside = {name for name in names if "_transformer_blocks_" in name or name.endswith("_1_norm")}
    assert found() == found(preset="unet-only") == names
    assert found(preset="attn-mlp") == inside < names
    assert found(preset="attn-only") == set()
    assert found(modules=("*_norm2",)) == {name for name in names if name.endswith("_norm2")}


def test_sdxl_has_the_255_norms_that_lycoris_finds():
    assert len(WITH_NORMS) == len(SDXL) + 255


def test_a_pattern_only_fits_within_the_preset():
    with pytest.raises(WorkerError, match="preset unet-only"):
        chosen(preset="unet-only", modules=("lora_te1_*",))


def test_what_leaves_nothing_to_train_is_refused():
    last = ("lora_te1_text_model_encoder_layers_11_*",)
    for settings in ({"modules": last}, {"preset": "unet-only", "components": {"te1", "te2"}}):
        with pytest.raises(WorkerError, match="nothing to train"):
            chosen(**settings)


def test_ranks_by_block_go_before_the_usual_ones():
    ranks = Ranks(8, 4, 256, 4, dims={"OUT01": 16, "TE1": 2, "TE1.3": 0}, conv_dims={"OUT01": 64, "MID00": 0})
    found = {target.name: ranks.of(target) for target in chosen(ranks=ranks)}
    assert found["lora_unet_output_blocks_1_1_proj_in"] == (16, 4)
    assert found["lora_unet_output_blocks_1_0_skip_connection"] == (16, 4)
    assert found["lora_unet_output_blocks_1_0_in_layers_2"] == (64, 4)
    assert found["lora_unet_output_blocks_2_0_in_layers_2"] == (256, 4)
    assert found["lora_te1_text_model_encoder_layers_2_mlp_fc1"] == (2, 4)
    assert found["lora_te2_text_model_encoder_layers_2_mlp_fc1"] == (8, 4)
    # A rank of 0 leaves the layer alone.
    assert not any("lora_te1_text_model_encoder_layers_3_" in name for name in found)
    assert "lora_unet_middle_block_0_in_layers_2" not in found and "lora_unet_middle_block_0_emb_layers_1" in found


@pytest.fixture
def single_layers(tmp_path):
    """Of SDXL with norms: rank by layer, 0 for a norm, and the factors of rates."""
    settings = parse_train(TrainingLab(tmp_path, tmp_path).request()).settings

    def run(block_lr=None, **ranks):
        network = NetworkSettings(Ranks(8, 4, 256, 4, zero_dims="all", **ranks), train_norm=True)
        found = with_single_layers(replace(settings, network=network, block_lr=block_lr or {}), WITH_NORMS)
        targets = chosen_targets(WITH_NORMS, found.network, ALL)
        return {t.name: 0 if t.kind == "norm" else found.network.ranks.of(t)[0] for t in targets}, found.block_lr

    return run


OUT01 = "lora_unet_output_blocks_1_"
TO_K = f"{OUT01}1_transformer_blocks_3_attn2_to_k"


def test_single_layers_have_ranks_of_their_own_and_the_narrowest_pattern_counts(single_layers):
    ranks, _ = single_layers(
        dims={"OUT01": 16, "*_attn2_to_k": 4, "lora_unet_*": 3, TO_K: 1, "TE1": 5},
        conv_dims={"*_in_layers_2": 32, "OUT02": 64},
    )
    assert ranks[TO_K] == 1
    assert ranks[f"{OUT01}1_transformer_blocks_2_attn2_to_k"] == 4
    # A pattern goes before blocks, also one that fits more layers.
    assert ranks[f"{OUT01}1_transformer_blocks_2_attn2_to_q"] == 3
    assert ranks["lora_te1_text_model_encoder_layers_2_mlp_fc1"] == 5
    assert ranks["lora_te2_text_model_encoder_layers_2_mlp_fc1"] == 8
    assert ranks[f"{OUT01}0_in_layers_2"] == 32
    assert ranks["lora_unet_output_blocks_2_0_in_layers_2"] == 32
    assert ranks["lora_unet_output_blocks_2_0_out_layers_3"] == 64
    assert ranks[f"{OUT01}0_out_layers_3"] == 256


def test_a_rank_of_0_leaves_all_of_a_block_alone_unless_its_convolutions_have_one(single_layers):
    ranks, _ = single_layers(dims={"OUT01": 0, "OUT02": 0, "MID00": 0, TO_K: 4}, conv_dims={"OUT02": 7})
    inside = {name: rank for name, rank in ranks.items() if name.startswith(OUT01)}
    assert inside == {TO_K: 4}
    second = "lora_unet_output_blocks_2_"
    convolutions = {name.removeprefix(second) for name in ranks if name.startswith(second) and ranks[name]}
    assert convolutions == {"0_in_layers_2", "0_out_layers_3", "2_conv"}
    # The norms stand between layers that are trained.
    assert "lora_unet_output_blocks_2_0_in_layers_0" in ranks
    assert "lora_unet_output_blocks_2_0_emb_layers_1" not in ranks
    assert not any("_middle_block_0_" in name for name in ranks)
    ranks, _ = single_layers(dims={"*_middle_block_0_in_layers_2": 0})
    assert "lora_unet_middle_block_0_in_layers_2" not in ranks
    assert "lora_unet_middle_block_0_in_layers_0" in ranks


def test_without_the_newer_rule_a_rank_of_0_leaves_convolutions_and_norms_as_they_are():
    norm, convolution = (next(t for t in WITH_NORMS if t.name == f"{OUT01}0_in_layers_{n}") for n in (0, 2))
    before = Ranks(8, 4, 256, 4, dims={"OUT01": 0})
    assert before.of(convolution) == (256, 4)
    assert before.adapts(norm)


def test_single_layers_have_rates_of_their_own(single_layers):
    _, rates = single_layers(block_lr={"OUT01": 0.5, "*_attn2_*": 2, TO_K: 0})
    assert number_of(TO_K, rates) == 0
    assert number_of(f"{OUT01}1_transformer_blocks_2_attn2_to_k", rates) == 2
    assert number_of(f"{OUT01}1_transformer_blocks_2_attn1_to_k", rates) == 0.5
    assert number_of("lora_unet_output_blocks_2_1_proj_in", rates) is None


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"dims": {"*_atn2_to_k": 4}}, 'The pattern "\\*_atn2_to_k" in "dims" fits no layer.*_attn2_to_k"'),
        ({"dims": {"*_in_layers_2": 4}}, '"\\*_in_layers_2" in "dims" fits only layers whose ranks "conv_dims" says'),
        ({"conv_dims": {"*_attn2_*": 4}}, '"conv_dims" fits only layers whose ranks "dims" says'),
        ({"dims": {"*_nowhere_*": 0}}, '"dims" fits no layer'),
        ({"dims": {"*_transformer_blocks_0_norm2": 4}}, '"dims" fits no layer'),
        (
            {"block_lr": {"lora_unet_output_blocks_1": 4}},
            '"block_lr" fits no layer. Similar names are "lora_unet_output',
        ),
        (
            {"block_lr": {"*_output_*_to_k": 1, "*_output_*_to_k*": 2}},
            '"block_lr" fit 72 layers each, and both fit "lora_unet_output',
        ),
    ],
)
def test_patterns_of_single_layers_that_say_nothing_or_two_things_are_refused(single_layers, settings, says):
    with pytest.raises(WorkerError, match=says):
        single_layers(**settings)


@pytest.fixture
def lab(tmp_path, toy_checkpoint, toy_models, monkeypatch):
    share_models(monkeypatch, toy_models)
    return TrainingLab(tmp_path, toy_checkpoint)


def trained(lab, **network):
    request = lab.request(steps=2)
    request["settings"]["network"] |= network
    return read_safetensors(lab.life(request)["lora"])


def test_a_training_has_the_layers_and_ranks_that_were_asked_for(lab):
    tensors, metadata = trained(
        lab,
        preset="attn-only",
        modules=["*_output_blocks_*", "*_te2_*"],
        dims={"OUT01": 5, "TE2": 3, "*_attn2_to_q": 1},
    )
    names = {name.partition(".")[0] for name in tensors}
    assert all("_attn" in name or "_self_attn_" in name for name in names)
    ranks = {name: tensor.shape[0] for name, tensor in tensors.items() if name.endswith("lora_down.weight")}
    assert {rank for name, rank in ranks.items() if "attn2_to_q" in name} == {1}
    ranks = {name: rank for name, rank in ranks.items() if "attn2_to_q" not in name}
    assert {rank for name, rank in ranks.items() if "_output_blocks_1_" in name} == {5}
    assert {rank for name, rank in ranks.items() if "_output_blocks_0_" in name} == {2}
    assert {rank for name, rank in ranks.items() if name.startswith("lora_te")} == {3}
    arguments = json.loads(metadata["ss_network_args"])
    assert arguments["preset"] == "attn-only"
    assert arguments["modules"] == "*_output_blocks_* *_te2_*"
    assert arguments["dims"] == "*_attn2_to_q=1 OUT01=5 TE2=3"


def test_with_rs_lora_readers_of_alpha_over_rank_get_alpha_over_its_root(lab):
    tensors, metadata = trained(lab, rs_lora=True, dims={"OUT01": 9})
    assert json.loads(metadata["ss_network_args"])["rs_lora"] == "True"
    for name, tensor in tensors.items():
        if not name.endswith(".alpha"):
            continue
        rank = tensors[name.replace(".alpha", ".lora_down.weight")].shape[0]
        torch.testing.assert_close(tensor / rank, torch.tensor(1 / rank**0.5))


def test_a_bad_pattern_is_found_before_the_checkpoint_is_loaded(lab, monkeypatch):
    def load(*_, **__):
        raise AssertionError("loaded")

    monkeypatch.setattr(train, "load_models", load)
    for settings in ({"modules": ["lora_unet_nowhere"]}, {"dims": {"lora_unet_nowhere": 2}}):
        with pytest.raises(WorkerError, match="fits no layer"):
            trained(lab, **settings)
