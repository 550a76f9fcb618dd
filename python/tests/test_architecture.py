"""Reading what a checkpoint is, from the published model's table of names and shapes and from toys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_worker.architecture import (
    SIZE_VALUES,
    VOCABULARY,
    Architecture,
    TextShape,
    UNetShape,
    VaeShape,
    heads,
    read_architecture,
)
from lora_worker.errors import WorkerError
from lora_worker.toy.shapes import checkpoint_shapes

FIXTURES = Path(__file__).parents[2] / "test" / "fixtures"

SDXL = Architecture(
    unet=UNetShape(widths=(320, 640, 1280), depths=(0, 2, 10), time_width=1280, context_width=2048, vector_width=2816),
    te1=TextShape(layers=12, width=768, mlp_width=3072, vocabulary=VOCABULARY),
    te2=TextShape(layers=32, width=1280, mlp_width=5120, vocabulary=VOCABULARY),
    pooled_width=1280,
    vae=VaeShape((128, 256, 512, 512)),
)


@pytest.fixture(scope="module")
def sdxl_shapes() -> dict[str, tuple[int, ...]]:
    parts = json.loads((FIXTURES / "sdxl-keys.json").read_text())
    return {name: tuple(shape) for part in parts.values() for name, shape in part.items()}


def test_the_published_model_is_read_from_its_shapes(sdxl_shapes):
    assert read_architecture(sdxl_shapes, name="sdxl.safetensors") == SDXL


def test_the_toy_has_exactly_the_published_names_and_shapes_at_the_published_widths(sdxl_shapes):
    optional = ("position_ids", "logit_scale")
    needed = {name: shape for name, shape in sdxl_shapes.items() if not name.endswith(optional)}
    assert checkpoint_shapes(SDXL) == needed


@st.composite
def architectures(draw) -> Architecture:
    width = st.sampled_from([32, 64, 128, 192])
    first = draw(st.sampled_from([32, 64, 128]))
    te1 = TextShape(draw(st.integers(2, 4)), draw(width), draw(st.integers(1, 300)), VOCABULARY)
    te2 = TextShape(draw(st.integers(2, 4)), draw(width), draw(st.integers(1, 300)), VOCABULARY)
    pooled = draw(st.integers(1, 200))
    unet = UNetShape(
        widths=(first, 2 * first, 4 * first),
        depths=(draw(st.integers(0, 1)), draw(st.integers(0, 2)), draw(st.integers(1, 3))),
        time_width=4 * first,
        context_width=te1.width + te2.width,
        vector_width=pooled + 6 * SIZE_VALUES,
    )
    vae = VaeShape(tuple(draw(st.lists(st.sampled_from([32, 64, 96]), min_size=4, max_size=4))))
    return Architecture(unet=unet, te1=te1, te2=te2, pooled_width=pooled, vae=vae)


@settings(max_examples=40, deadline=None)
@given(architectures())
def test_what_is_written_for_an_architecture_reads_back_as_it(architecture):
    assert read_architecture(checkpoint_shapes(architecture), name="toy") == architecture


@pytest.mark.parametrize(("width", "count"), [(32, 1), (64, 1), (128, 2), (320, 5), (768, 12), (1280, 20)])
def test_heads_are_64_wide(width, count):
    assert heads(width) == count


@pytest.mark.parametrize(
    ("key", "metadata", "prediction", "zero_terminal_snr"),
    [
        (None, {}, "epsilon", False),
        ("v_pred", {}, "v", False),
        ("ztsnr", {}, "epsilon", True),
        (None, {"modelspec.prediction_type": "v"}, "v", False),
        (None, {"modelspec.prediction_type": "epsilon"}, "epsilon", False),
    ],
)
def test_the_prediction_type_is_marked_by_empty_tensors_or_metadata(key, metadata, prediction, zero_terminal_snr):
    shapes = checkpoint_shapes(SDXL) | ({key: ()} if key else {})
    architecture = read_architecture(shapes, metadata, name="toy")
    assert (architecture.prediction, architecture.zero_terminal_snr) == (prediction, zero_terminal_snr)


UNET = "model.diffusion_model."


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({}, "no checkpoint that lorac knows"),
        ({"lora_unet_input_blocks_1_0_in_layers_2.lora_up.weight": (320, 8)}, "is a LoRA"),
        ({"unet.down_blocks.0.x.lora_A.weight": (8, 320)}, "is a LoRA"),
        ({"cond_stage_model.transformer.x": (1,)}, "Stable Diffusion 1 or 2"),
        ({"conditioner.embedders.0.model.ln_final.weight": (1280,)}, "refiner"),
        ({"down_blocks.0.resnets.0.conv1.weight": (320, 320, 3, 3)}, "a UNet alone"),
    ],
)
def test_other_files_are_refused_by_what_they_are(shapes, message):
    with pytest.raises(WorkerError, match=message) as caught:
        read_architecture(shapes, name="some/file.safetensors")
    assert caught.value.kind == "bad-input"
    assert "some/file.safetensors" in caught.value.message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({f"{UNET}input_blocks.0.0.weight": (320, 9, 3, 3)}, "inpainting checkpoint"),
        ({f"{UNET}input_blocks.0.0.weight": None}, 'no tensor "model.diffusion_model.input_blocks.0.0.weight"'),
        ({f"{UNET}input_blocks.9.0.op.weight": (1, 1, 3, 3)}, "nine input blocks"),
        ({f"{UNET}label_emb.0.0.weight": (1280, 2000)}, "vector of 2000 values"),
        ({f"{UNET}time_embed.0.weight": (1280,)}, "2 dimensions were expected"),
        ({"conditioner.embedders.1.model.token_embedding.weight": (1000, 1280)}, "1000 tokens"),
        ({"conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight": (49408, 512)}, "512"),
        ({"first_stage_model.post_quant_conv.weight": (16, 16, 1, 1)}, "16 latent channels"),
    ],
)
def test_a_checkpoint_that_differs_from_sdxl_is_refused_with_the_difference(changes, message):
    shapes = checkpoint_shapes(SDXL)
    for name, shape in changes.items():
        if shape is None:
            del shapes[name]
        else:
            shapes[name] = shape
    with pytest.raises(WorkerError, match=message):
        read_architecture(shapes, name="odd.safetensors")


def test_a_checkpoint_without_a_vae_is_refused():
    shapes = {name: shape for name, shape in checkpoint_shapes(SDXL).items() if "first_stage" not in name}
    with pytest.raises(WorkerError, match="no VAE inside"):
        read_architecture(shapes, name="bare.safetensors")


def test_a_pruned_unet_is_refused():
    shapes = {name: shape for name, shape in checkpoint_shapes(SDXL).items() if f"{UNET}middle_block.1" not in name}
    with pytest.raises(WorkerError, match="middle_block"):
        read_architecture(shapes, name="pruned.safetensors")
