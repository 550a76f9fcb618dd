"""Names and shapes of a single-file checkpoint of any architecture of the family: the inverse of reading one."""

from __future__ import annotations

from collections.abc import Iterator

from lora_worker.architecture import (
    LATENT_CHANNELS,
    TE1_PREFIX,
    TE2_PREFIX,
    TOKENS,
    UNET_PREFIX,
    VAE_PREFIX,
    Architecture,
    Shape,
    TextShape,
    VaeShape,
)
from lora_worker.unet_plan import Attention, Resnet, linears_of_attention, unet_parts

Named = Iterator[tuple[str, Shape]]


def checkpoint_shapes(architecture: Architecture) -> dict[str, Shape]:
    """Every tensor of the file, without the optional ones (`position_ids`, `logit_scale`)."""
    return {
        **{UNET_PREFIX + name: shape for name, shape in _unet(architecture)},
        **{TE1_PREFIX + name: shape for name, shape in _te1(architecture.te1)},
        **{TE2_PREFIX + name: shape for name, shape in _te2(architecture.te2, architecture.pooled_width)},
        **{VAE_PREFIX + name: shape for name, shape in _vae(architecture.vae)},
    }


def _unet(architecture: Architecture) -> Named:
    unet = architecture.unet
    first = unet.widths[0]
    yield from _weight_and_bias("time_embed.0", unet.time_width, first)
    yield from _weight_and_bias("time_embed.2", unet.time_width, unet.time_width)
    yield from _weight_and_bias("label_emb.0.0", unet.time_width, unet.vector_width)
    yield from _weight_and_bias("label_emb.0.2", unet.time_width, unet.time_width)
    yield from _weight_and_bias("input_blocks.0.0", first, LATENT_CHANNELS, 3, 3)
    for part in unet_parts(unet):
        if isinstance(part, Resnet):
            yield from _unet_resnet(part, unet.time_width)
        elif isinstance(part, Attention):
            yield from _unet_attention(part, unet.context_width)
        else:
            yield from _weight_and_bias(part.path, part.width, part.width, 3, 3)
    yield from _weight_and_bias("out.0", first)
    yield from _weight_and_bias("out.2", LATENT_CHANNELS, first, 3, 3)


def _unet_resnet(part: Resnet, time_width: int) -> Named:
    yield from _weight_and_bias(f"{part.path}.in_layers.0", part.in_width)
    yield from _weight_and_bias(f"{part.path}.in_layers.2", part.out_width, part.in_width, 3, 3)
    yield from _weight_and_bias(f"{part.path}.emb_layers.1", part.out_width, time_width)
    yield from _weight_and_bias(f"{part.path}.out_layers.0", part.out_width)
    yield from _weight_and_bias(f"{part.path}.out_layers.3", part.out_width, part.out_width, 3, 3)
    if part.in_width != part.out_width:
        yield from _weight_and_bias(f"{part.path}.skip_connection", part.out_width, part.in_width, 1, 1)


def _unet_attention(part: Attention, context_width: int) -> Named:
    yield from _weight_and_bias(f"{part.path}.norm", part.width)
    for index in range(part.depth):
        for norm in ("norm1", "norm2", "norm3"):
            yield from _weight_and_bias(f"{part.path}.transformer_blocks.{index}.{norm}", part.width)
    for path, in_width, out_width, has_bias in linears_of_attention(part, context_width):
        yield f"{part.path}.{path}.weight", (out_width, in_width)
        if has_bias:
            yield f"{part.path}.{path}.bias", (out_width,)


def _te1(text: TextShape) -> Named:
    width = text.width
    yield "text_model.embeddings.token_embedding.weight", (text.vocabulary, width)
    yield "text_model.embeddings.position_embedding.weight", (TOKENS, width)
    for layer in range(text.layers):
        prefix = f"text_model.encoder.layers.{layer}"
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _weight_and_bias(f"{prefix}.self_attn.{projection}", width, width)
        yield from _weight_and_bias(f"{prefix}.layer_norm1", width)
        yield from _weight_and_bias(f"{prefix}.layer_norm2", width)
        yield from _weight_and_bias(f"{prefix}.mlp.fc1", text.mlp_width, width)
        yield from _weight_and_bias(f"{prefix}.mlp.fc2", width, text.mlp_width)
    yield from _weight_and_bias("text_model.final_layer_norm", width)


def _te2(text: TextShape, pooled_width: int) -> Named:
    width = text.width
    yield "positional_embedding", (TOKENS, width)
    yield "token_embedding.weight", (text.vocabulary, width)
    yield "text_projection", (width, pooled_width)
    for layer in range(text.layers):
        prefix = f"transformer.resblocks.{layer}"
        yield f"{prefix}.attn.in_proj_weight", (3 * width, width)
        yield f"{prefix}.attn.in_proj_bias", (3 * width,)
        yield from _weight_and_bias(f"{prefix}.attn.out_proj", width, width)
        yield from _weight_and_bias(f"{prefix}.ln_1", width)
        yield from _weight_and_bias(f"{prefix}.ln_2", width)
        yield from _weight_and_bias(f"{prefix}.mlp.c_fc", text.mlp_width, width)
        yield from _weight_and_bias(f"{prefix}.mlp.c_proj", width, text.mlp_width)
    yield from _weight_and_bias("ln_final", width)


def _vae(vae: VaeShape) -> Named:
    widths = vae.widths
    last = widths[-1]
    yield from _weight_and_bias("encoder.conv_in", widths[0], 3, 3, 3)
    width = widths[0]
    for level, out_width in enumerate(widths):
        for block in range(2):
            yield from _vae_resnet(f"encoder.down.{level}.block.{block}", width, out_width)
            width = out_width
        if level < len(widths) - 1:
            yield from _weight_and_bias(f"encoder.down.{level}.downsample.conv", width, width, 3, 3)
    yield from _vae_middle("encoder", last)
    yield from _weight_and_bias("encoder.norm_out", last)
    yield from _weight_and_bias("encoder.conv_out", 2 * LATENT_CHANNELS, last, 3, 3)
    yield from _weight_and_bias("quant_conv", 2 * LATENT_CHANNELS, 2 * LATENT_CHANNELS, 1, 1)
    yield from _weight_and_bias("post_quant_conv", LATENT_CHANNELS, LATENT_CHANNELS, 1, 1)
    yield from _weight_and_bias("decoder.conv_in", last, LATENT_CHANNELS, 3, 3)
    yield from _vae_middle("decoder", last)
    width = last
    for level, out_width in reversed(list(enumerate(widths))):
        for block in range(3):
            yield from _vae_resnet(f"decoder.up.{level}.block.{block}", width, out_width)
            width = out_width
        if level:
            yield from _weight_and_bias(f"decoder.up.{level}.upsample.conv", width, width, 3, 3)
    yield from _weight_and_bias("decoder.norm_out", widths[0])
    yield from _weight_and_bias("decoder.conv_out", 3, widths[0], 3, 3)


def _vae_resnet(path: str, in_width: int, out_width: int) -> Named:
    yield from _weight_and_bias(f"{path}.norm1", in_width)
    yield from _weight_and_bias(f"{path}.conv1", out_width, in_width, 3, 3)
    yield from _weight_and_bias(f"{path}.norm2", out_width)
    yield from _weight_and_bias(f"{path}.conv2", out_width, out_width, 3, 3)
    if in_width != out_width:
        yield from _weight_and_bias(f"{path}.nin_shortcut", out_width, in_width, 1, 1)


def _vae_middle(side: str, width: int) -> Named:
    yield from _vae_resnet(f"{side}.mid.block_1", width, width)
    yield from _weight_and_bias(f"{side}.mid.attn_1.norm", width)
    for name in ("q", "k", "v", "proj_out"):
        yield from _weight_and_bias(f"{side}.mid.attn_1.{name}", width, width, 1, 1)
    yield from _vae_resnet(f"{side}.mid.block_2", width, width)


def _weight_and_bias(path: str, *shape: int) -> Named:
    yield f"{path}.weight", shape
    yield f"{path}.bias", shape[:1]
