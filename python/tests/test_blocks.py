"""Blocks have the names that programs use, and every module of SDXL is in one."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from lora_worker.blocks import block_names, block_weight

FIXTURES = Path(__file__).parents[2] / "test" / "fixtures"


def test_every_module_of_sdxl_is_in_the_block_that_its_checkpoint_says():
    counts = Counter()
    for module in json.loads((FIXTURES / "sdxl-lora-modules.json").read_text()):
        section, _, number = module["block"].partition(".")
        word = {"input_blocks": "IN", "middle_block": "MID", "output_blocks": "OUT"}.get(section)
        *narrow, name = block_names(module["lora_key"])
        if word:
            assert (narrow, name) == ([], f"{word}{int(number):02}")
        else:
            assert (narrow, name) == ([f"{section.upper()}.{number.split('.')[1]}"], section.upper())
        counts[name] += 1
    assert (len(counts), counts["OUT01"], counts["MID00"], counts["TE1"], counts["TE2"]) == (22, 106, 3, 72, 192)


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("lora_unet_input_blocks_0_0", ("IN00",)),
        ("lora_unet_time_embed_0", ("REST",)),
        ("lora_unet_out_2", ("REST",)),
        ("lora_te2_text_projection", ("TE2",)),
        ("lora_te1_text_model_final_layer_norm", ("TE1",)),
        ("lora_te2_text_model_encoder_layers_31_mlp_fc1", ("TE2.31", "TE2")),
    ],
)
def test_what_lies_outside_the_blocks_has_names_too(module, names):
    assert block_names(module) == names


def test_a_layer_goes_before_its_encoder_and_what_is_not_named_has_no_weight():
    layer = "lora_te1_text_model_encoder_layers_3_mlp_fc1"
    assert block_weight(layer, None) == 1
    assert block_weight(layer, {"TE1": 0.5}) == 0.5
    assert block_weight(layer, {"TE1": 0.5, "TE1.3": -2}) == -2
    assert block_weight(layer, {"TE1.13": 1, "TE2": 1, "OUT01": 1}) == 0
