"""What model a checkpoint holds, read from the names and shapes of its tensors.

SDXL never changes its plan: three levels, two residual blocks per level on the way down and three on the way up,
linear projections around every transformer. Widths, depths, the context and the number of text layers are read, so
that one code path runs the published model and a toy of the same plan. Nothing here needs torch.

What shapes do not show is the same in the whole family: a head is 64 wide (one head below 64), group norms
have 32 groups, each of the six numbers of the size conditioning becomes
256 values, latents are scaled by 0.13025.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lora_worker.errors import WorkerError, bad_input

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

UNET_PREFIX = "model.diffusion_model."
TE1_PREFIX = "conditioner.embedders.0.transformer."
TE2_PREFIX = "conditioner.embedders.1.model."
VAE_PREFIX = "first_stage_model."

LEVELS = 3
NORM_GROUPS = 32
SIZE_VALUES = 256
"""Values that each of the six numbers of the size conditioning becomes."""
TOKENS = 77
"""Places of a caption, the begin and end tokens included."""
VOCABULARY = 49408
LATENT_CHANNELS = 4
VAE_SCALE = 0.13025
"""Latents times this have a standard deviation near one; the UNet sees them so."""
VAE_FACTOR = 8
"""Pixels per latent cell, along each axis."""


@dataclass(frozen=True)
class UNetShape:
    """`widths` and `depths` run from the finest level to the coarsest; a depth of 0 means no attention there."""

    widths: tuple[int, int, int]
    depths: tuple[int, int, int]
    time_width: int
    context_width: int
    vector_width: int
    """Pooled text and size conditioning together: 2816 in SDXL."""


@dataclass(frozen=True)
class TextShape:
    layers: int
    width: int
    mlp_width: int
    vocabulary: int


@dataclass(frozen=True)
class VaeShape:
    """Widths from the finest level to the coarsest, in the encoder and (the same) in the decoder."""

    widths: tuple[int, int, int, int]


@dataclass(frozen=True)
class Architecture:
    unet: UNetShape
    te1: TextShape
    te2: TextShape
    pooled_width: int
    vae: VaeShape
    prediction: Literal["epsilon", "v"] = "epsilon"
    zero_terminal_snr: bool = False


def heads(width: int) -> int:
    """Attention heads of a layer of that width, in the UNet and in both text encoders."""
    return max(1, width // 64)


def read_architecture(shapes: Shapes, metadata: Mapping[str, str] | None = None, *, name: str) -> Architecture:
    """Reads the architecture of a checkpoint, by the names of a single file. `name` is what messages call it.

    Raises `bad-input` when the file is no SDXL checkpoint, saying what it is instead where that can be told.
    """
    _refuse_other_kinds(shapes, name)
    reader = _Reader(shapes, name)
    unet = _read_unet(reader)
    te1 = _read_te1(reader)
    te2 = _read_te2(reader)
    pooled = reader.shape(f"{TE2_PREFIX}text_projection", 2)[1]
    if unet.context_width != te1.width + te2.width:
        raise reader.refuse(
            f"its UNet expects text of width {unet.context_width}, and its text encoders give {te1.width} + {te2.width}"
        )
    if unet.vector_width != pooled + 6 * SIZE_VALUES:
        raise reader.refuse(
            f"its UNet expects a vector of {unet.vector_width} values, and pooled text and sizes make "
            f"{pooled} + {6 * SIZE_VALUES}"
        )
    return Architecture(
        unet=unet,
        te1=te1,
        te2=te2,
        pooled_width=pooled,
        vae=_read_vae(reader),
        prediction=_read_prediction(shapes, metadata or {}),
        zero_terminal_snr="ztsnr" in shapes,
    )


def read_vae_shape(shapes: Shapes, *, name: str) -> VaeShape:
    """The autoencoder alone."""
    return _read_vae(_Reader(shapes, name))


class _Reader:
    """Shapes by name, with an error that a user understands where one is missing."""

    def __init__(self, shapes: Shapes, name: str) -> None:
        self.shapes = shapes
        self.name = name

    def shape(self, key: str, dimensions: int) -> Shape:
        shape = self.shapes.get(key)
        if shape is None:
            raise self.refuse(f'it has no tensor "{key}"')
        if len(shape) != dimensions:
            raise self.refuse(f'"{key}" has shape {list(shape)}, and {dimensions} dimensions were expected')
        return shape

    def count(self, pattern: str) -> int:
        """How many consecutive indices, from 0, stand where `pattern` has its group."""
        expression = re.compile(pattern)
        found = {int(match[1]) for key in self.shapes if (match := expression.match(key))}
        if found != set(range(len(found))):
            missing = min(set(range(max(found))) - found)
            raise self.refuse(f"number {missing} is missing among its {pattern.split('(')[0]}* tensors")
        return len(found)

    def refuse(self, reason: str) -> WorkerError:
        return bad_input(
            f'"{self.name}" cannot be used as an SDXL checkpoint: {reason}.',
            hint="lorac needs a whole SDXL checkpoint: UNet, both text encoders and VAE.",
        )


def _refuse_other_kinds(shapes: Shapes, name: str) -> None:
    def refuse(
        what: str, hint: str = "Give a whole SDXL checkpoint: one file, or the folder of a diffusers model."
    ) -> WorkerError:
        return bad_input(f'"{name}" is {what}, and an SDXL checkpoint is needed.', hint=hint)

    suffixes = (".lora_up.weight", ".lora_down.weight", ".lora_A.weight", ".lora_B.weight", ".hada_w1_a", ".lokr_w1")
    if any(key.startswith(("lora_", "lycoris_")) or key.endswith(suffixes) for key in shapes):
        raise refuse("a LoRA", "Give the checkpoint that the LoRA was made for.")
    if any(key.startswith("cond_stage_model.") for key in shapes):
        raise refuse("a Stable Diffusion 1 or 2 checkpoint")
    if any(key.startswith("conditioner.embedders.0.model.") for key in shapes):
        raise refuse("an SDXL refiner", "Give the base model; the refiner has another shape.")
    if not any(key.startswith(UNET_PREFIX) for key in shapes):
        is_diffusers = any(key.startswith("down_blocks.") for key in shapes)
        raise refuse("a UNet alone, as diffusers lays it out," if is_diffusers else "no checkpoint that lorac knows")
    if not any(key.startswith(f"{UNET_PREFIX}input_blocks.") for key in shapes):
        raise refuse("a model of another family")
    if "edm_mean" in shapes or any(key.startswith("edm_vpred.") for key in shapes):
        raise refuse("an SDXL checkpoint of the EDM kind, whose noise has another formulation")


def _read_unet(reader: _Reader) -> UNetShape:
    first_width, in_channels = reader.shape(f"{UNET_PREFIX}input_blocks.0.0.weight", 4)[:2]
    if in_channels != LATENT_CHANNELS:
        kind = {9: "an inpainting checkpoint", 8: "an instruction-editing checkpoint"}.get(in_channels, "another model")
        raise bad_input(
            f'"{reader.name}" is {kind}: its UNet takes {in_channels} channels, and {LATENT_CHANNELS} are needed.',
            hint="Train on the base model; the LoRA works on its inpainting variants too.",
        )
    if reader.count(re.escape(UNET_PREFIX) + r"input_blocks\.(\d+)\.") != 3 * LEVELS:
        raise reader.refuse("its UNet does not have SDXL's nine input blocks")
    if reader.count(re.escape(UNET_PREFIX) + r"output_blocks\.(\d+)\.") != 3 * LEVELS:
        raise reader.refuse("its UNet does not have SDXL's nine output blocks")
    widths = tuple(
        reader.shape(f"{UNET_PREFIX}input_blocks.{1 + 3 * level}.0.out_layers.3.weight", 4)[0]
        for level in range(LEVELS)
    )
    if first_width != widths[0]:
        raise reader.refuse(f"its UNet begins {first_width} channels wide and goes on with {widths[0]}")
    depths = tuple(_depth_of_level(reader, level) for level in range(LEVELS))
    attention = [level for level in range(LEVELS) if depths[level]]
    if not attention or not depths[-1]:
        raise reader.refuse("its UNet has no attention at the coarsest level")
    for level, width in enumerate(widths):
        if width % NORM_GROUPS or (depths[level] and width > 64 and width % 64):
            raise reader.refuse(f"a UNet width of {width} cannot be divided into groups and heads")
    block = f"{UNET_PREFIX}input_blocks.{4 + 3 * (attention[0] - 1)}.1.transformer_blocks.0"
    time_width = reader.shape(f"{UNET_PREFIX}time_embed.0.weight", 2)[0]
    return UNetShape(
        widths=widths,
        depths=depths,
        time_width=time_width,
        context_width=reader.shape(f"{block}.attn2.to_k.weight", 2)[1],
        vector_width=reader.shape(f"{UNET_PREFIX}label_emb.0.0.weight", 2)[1],
    )


def _depth_of_level(reader: _Reader, level: int) -> int:
    """Transformer blocks of each attention of a level. All of one level must agree, and the middle with the last."""
    places = [f"input_blocks.{1 + 3 * level + place}.1" for place in range(2)]
    places += [f"output_blocks.{3 * (LEVELS - 1 - level) + place}.1" for place in range(3)]
    if level == LEVELS - 1:
        places.append("middle_block.1")
    found = {
        place: reader.count(re.escape(f"{UNET_PREFIX}{place}.transformer_blocks.") + r"(\d+)\.") for place in places
    }
    depth = found[places[0]]
    for place, other in found.items():
        if other != depth:
            raise reader.refuse(
                f"its UNet has {depth} transformer blocks in {places[0]} and {other} in {place}, "
                "as pruned models do; SDXL has equally many"
            )
    return depth


def _read_te1(reader: _Reader) -> TextShape:
    inner = "text_model." if any(key.startswith(f"{TE1_PREFIX}text_model.") for key in reader.shapes) else ""
    prefix = f"{TE1_PREFIX}{inner}"
    layers = reader.count(re.escape(f"{prefix}encoder.layers.") + r"(\d+)\.")
    vocabulary, width = reader.shape(f"{prefix}embeddings.token_embedding.weight", 2)
    positions = reader.shape(f"{prefix}embeddings.position_embedding.weight", 2)[0]
    _check_text(reader, 1, layers=layers, width=width, vocabulary=vocabulary, positions=positions)
    mlp_width = reader.shape(f"{prefix}encoder.layers.0.mlp.fc1.weight", 2)[0]
    return TextShape(layers=layers, width=width, mlp_width=mlp_width, vocabulary=vocabulary)


def _read_te2(reader: _Reader) -> TextShape:
    layers = reader.count(re.escape(f"{TE2_PREFIX}transformer.resblocks.") + r"(\d+)\.")
    vocabulary, width = reader.shape(f"{TE2_PREFIX}token_embedding.weight", 2)
    positions = reader.shape(f"{TE2_PREFIX}positional_embedding", 2)[0]
    _check_text(reader, 2, layers=layers, width=width, vocabulary=vocabulary, positions=positions)
    mlp_width = reader.shape(f"{TE2_PREFIX}transformer.resblocks.0.mlp.c_fc.weight", 2)[0]
    return TextShape(layers=layers, width=width, mlp_width=mlp_width, vocabulary=vocabulary)


def _check_text(reader: _Reader, number: int, *, layers: int, width: int, vocabulary: int, positions: int) -> None:
    if layers < 2:
        raise reader.refuse(f"its text encoder {number} has {layers} layers, and at least 2 are needed")
    if width > 64 and width % 64:
        raise reader.refuse(f"the width {width} of its text encoder {number} cannot be divided into heads")
    if vocabulary != VOCABULARY:
        raise reader.refuse(f"its text encoder {number} knows {vocabulary} tokens, and CLIP has {VOCABULARY}")
    if positions != TOKENS:
        raise reader.refuse(f"its text encoder {number} has {positions} positions, and {TOKENS} are needed")


def _read_vae(reader: _Reader) -> VaeShape:
    if not any(key.startswith(VAE_PREFIX) for key in reader.shapes):
        raise reader.refuse("it has no VAE inside")
    levels = reader.count(re.escape(f"{VAE_PREFIX}encoder.down.") + r"(\d+)\.")
    if levels != 4:
        raise reader.refuse(f"its VAE has {levels} levels, and 4 are needed")
    widths = tuple(
        reader.shape(f"{VAE_PREFIX}encoder.down.{level}.block.0.conv1.weight", 4)[0] for level in range(levels)
    )
    latents = reader.shape(f"{VAE_PREFIX}post_quant_conv.weight", 4)[0]
    if latents != LATENT_CHANNELS:
        raise reader.refuse(f"its VAE has {latents} latent channels, and {LATENT_CHANNELS} are needed")
    if any(width % NORM_GROUPS for width in widths):
        raise reader.refuse(f"the VAE widths {list(widths)} are not all multiples of {NORM_GROUPS}")
    return VaeShape(widths)


def _read_prediction(shapes: Shapes, metadata: Mapping[str, str]) -> Literal["epsilon", "v"]:
    stated = metadata.get("modelspec.prediction_type", "").lower()
    if "v_pred" in shapes or stated in ("v", "v_prediction", "v-prediction"):
        return "v"
    return "epsilon"
