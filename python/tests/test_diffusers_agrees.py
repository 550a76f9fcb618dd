"""Checkpoints mean here what they mean to diffusers: its own converters and its own pipeline give the same numbers."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, EulerAncestralDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.loaders import single_file_utils
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from lora_worker.models import load_models, load_vae, size_embedding_inputs
from lora_worker.safetensors_file import read_safetensors, write_safetensors
from lora_worker.sampling import SamplePrompt, render
from lora_worker.text import PAD_ONE, PAD_TWO, token_ids, vocabulary_file

# diffusers hands tensors to numpy in a way that numpy 2 frowns upon.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

TE1, TE2 = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."

# The published `scheduler_config.json`, where it differs from the class's own settings.
PUBLISHED_SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "steps_offset": 1,
    "timestep_spacing": "leading",
}


@pytest.fixture(scope="module")
def uneven_checkpoint(toy_checkpoint, tmp_path_factory):
    """The toy with norms and biases of all kinds. Its own are all 1 and 0, and would hide what was mixed up."""
    tensors, metadata = read_safetensors(toy_checkpoint)
    generator = torch.Generator().manual_seed(3)
    for name in sorted(tensors):
        values = tensors[name]
        if values.dim() == 1 and name != "first_stage_model.quant_conv.bias":
            tensors[name] = (values.float() + 0.2 * torch.randn(values.shape, generator=generator)).half()
    path = tmp_path_factory.mktemp("uneven") / "uneven.safetensors"
    write_safetensors(path, tensors, metadata)
    return path


@pytest.fixture(scope="module")
def pipeline(uneven_checkpoint):
    """SDXL as diffusers builds it: published settings with the toy's widths, weights through diffusers' converters."""
    tensors, _ = read_safetensors(uneven_checkpoint)
    tensors = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    unet = UNet2DConditionModel(
        block_out_channels=(32, 64, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 1),
        attention_head_dim=(1, 1, 2),
        cross_attention_dim=96,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=64 + 1536,
        sample_size=8,
    )
    unet.load_state_dict(single_file_utils.convert_ldm_unet_checkpoint(dict(tensors), unet.config))
    vae = AutoencoderKL(
        block_out_channels=(32, 32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        scaling_factor=0.13025,
        force_upcast=False,
    )
    vae.load_state_dict(single_file_utils.convert_ldm_vae_checkpoint(dict(tensors), vae.config))
    one = CLIPTextModel(text_config(32, "quick_gelu"))
    names = one.state_dict().keys()
    converted = single_file_utils.convert_ldm_clip_checkpoint(dict(tensors), remove_prefix=TE1)
    one.load_state_dict({name: converted[f"text_model.{name}"] for name in names})
    two = CLIPTextModelWithProjection(text_config(64, "gelu"))
    two.load_state_dict(single_file_utils.convert_open_clip_checkpoint(two, dict(tensors), prefix=TE2), strict=False)
    tokenizers = plain_tokenizer("<|endoftext|>"), plain_tokenizer("!")
    scheduler = EulerAncestralDiscreteScheduler(**PUBLISHED_SCHEDULER)
    pipeline = StableDiffusionXLPipeline(vae, one, two, *tokenizers, unet, scheduler, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def text_config(width, activation):
    return CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=2,
        num_attention_heads=1,
        projection_dim=width,
        hidden_act=activation,
    )


def plain_tokenizer(pad):
    """transformers' own, with the vocabulary that CLIP was published with."""
    lines = gzip.decompress(vocabulary_file().read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    merges = [tuple(line.split()) for line in lines]
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = [chr(code) for code in printable] + [chr(256 + place) for place in range(256 - len(printable))]
    words = [*symbols, *(f"{symbol}</w>" for symbol in symbols), *map("".join, merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token=pad, model_max_length=77)


@pytest.fixture(scope="module")
def ours(uneven_checkpoint):
    return load_models(uneven_checkpoint, device="cpu", dtype=torch.float32)


def same(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_the_same_weights_are_everywhere(pipeline, ours, uneven_checkpoint):
    vae = load_vae(uneven_checkpoint, device="cpu", dtype=torch.float32)
    for our_model, their_model in (
        (ours.unet, pipeline.unet),
        (ours.text.one, pipeline.text_encoder),
        (ours.text.two, pipeline.text_encoder_2),
        (vae, pipeline.vae),
    ):
        wanted = their_model.state_dict()
        found = our_model.state_dict()
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)


# None has a "!", which diffusers takes for padding of encoder 2, where OpenCLIP and other programs read a word.
CAPTIONS = ["a photo of a cat", "roundling, solo, RED  scarf, 3d", "", "many words " * 40]


@torch.no_grad()
def test_captions_become_the_same_context_and_pooled_vector(pipeline, ours):
    # In one chunk, which is all that diffusers has: what is behind 75 tokens is cut off.
    context, pooled = ours.text.encode_ids(token_ids(CAPTIONS, PAD_ONE), token_ids(CAPTIONS, PAD_TWO))
    wanted, _, wanted_pooled, _ = pipeline.encode_prompt(CAPTIONS, do_classifier_free_guidance=False)
    same(context, wanted)
    same(pooled, wanted_pooled)


@torch.no_grad()
def test_the_unet_answers_the_same_to_every_input(pipeline, ours):
    context, pooled = ours.text.encode(CAPTIONS[:2])
    original, crop, target = (200, 150), (3, 5), (96, 64)
    times = pipeline._get_add_time_ids(original[::-1], crop[::-1], target[::-1], torch.float32, 64)
    rows = torch.tensor([size_embedding_inputs(original, crop, target)] * 2)
    assert times.tolist() == rows[:1].tolist()
    latents = torch.randn(2, 4, 8, 12, generator=torch.Generator().manual_seed(1))
    timesteps = torch.tensor([3, 900])
    wanted = pipeline.unet(latents, timesteps, context, added_cond_kwargs={"text_embeds": pooled, "time_ids": rows})
    same(ours.predict(latents, timesteps, context, pooled, rows), wanted.sample)


@pytest.mark.parametrize(
    ("prompt", "negative", "size", "scale"),
    [
        ("roundling, red scarf", "blurry, bad", (64, 96), 5.0),
        ("many, words, in, one, prompt, " * 20, "", (96, 64), 7.5),
        ("no guidance", "unheard", (64, 64), 1.0),
        ("an odd size", "", (72, 104), 2.0),
    ],
)
def test_a_picture_is_the_pipelines_picture(pipeline, ours, uneven_checkpoint, prompt, negative, size, scale):
    vae = load_vae(uneven_checkpoint, device="cpu", dtype=torch.float32)
    width, height = size
    drawn = render(ours, vae, SamplePrompt(prompt, negative, width, height, seed=11, steps=4, scale=scale))
    wanted = pipeline(
        prompt,
        negative_prompt=negative,
        width=width,
        height=height,
        num_inference_steps=4,
        guidance_scale=scale,
        generator=torch.Generator().manual_seed(11),
    ).images[0]
    assert drawn.size == wanted.size == size
    difference = np.abs(np.asarray(drawn).astype(int) - np.asarray(wanted).astype(int))
    assert difference.max() <= 1
    assert np.asarray(wanted).std() > 1
