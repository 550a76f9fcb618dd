"""A checkpoint with SDXL's names and topology, narrow layers, and random weights that behave.

The bytes follow from the size's name alone. Every tensor has a random stream of its own, seeded by its name, so a
change of one shape leaves the other tensors alone. Residual branches start quiet, so that activations neither vanish
nor explode over 70 transformer layers, and the VAE is calibrated on drawn pictures: latents times 0.13025 have mean
0 and standard deviation 1, as the UNet of a trained model expects.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike

import torch
from torch import Tensor

from lora_worker.architecture import (
    LATENT_CHANNELS,
    SIZE_VALUES,
    TE1_PREFIX,
    TOKENS,
    VAE_PREFIX,
    VAE_SCALE,
    VOCABULARY,
    Architecture,
    TextShape,
    UNetShape,
    VaeShape,
)
from lora_worker.images import to_tensor
from lora_worker.models import load_vae
from lora_worker.safetensors_file import write_safetensors
from lora_worker.toy.pictures import draw
from lora_worker.toy.random_tensors import random_tensor
from lora_worker.toy.shapes import checkpoint_shapes


def toy_architecture(
    *,
    widths: tuple[int, int, int],
    depths: tuple[int, int, int],
    layers: tuple[int, int],
    text_widths: tuple[int, int],
    vae: tuple[int, int, int, int],
) -> Architecture:
    """SDXL's plan with these widths, depths and numbers of text layers."""
    text = [TextShape(count, width, 4 * width, VOCABULARY) for count, width in zip(layers, text_widths, strict=True)]
    return Architecture(
        unet=UNetShape(
            widths=widths,
            depths=depths,
            time_width=4 * widths[0],
            context_width=sum(text_widths),
            vector_width=text_widths[1] + 6 * SIZE_VALUES,
        ),
        te1=text[0],
        te2=text[1],
        pooled_width=text_widths[1],
        vae=VaeShape(vae),
    )


SIZES: Mapping[str, Architecture] = {
    # SDXL's exact topology, that is, all of its 1052 LoRA modules.
    "quickstart": toy_architecture(
        widths=(32, 64, 128), depths=(0, 2, 10), layers=(12, 32), text_widths=(32, 64), vae=(32, 64, 96, 96)
    ),
    # Fewer layers, for tests that want a training step in a fraction of a second.
    "test": toy_architecture(
        widths=(32, 64, 128), depths=(0, 1, 1), layers=(2, 2), text_widths=(32, 64), vae=(32, 32, 64, 64)
    ),
}


def write_toy_checkpoint(path: str | PathLike[str], size: str = "quickstart") -> None:
    """Writes a checkpoint of one of `SIZES`, in fp16. Twice the same call, twice the same bytes."""
    tensors = random_tensors(SIZES[size])
    metadata = {"modelspec.title": f"lorac toy ({size})", "modelspec.architecture": "stable-diffusion-xl-v1-base"}
    write_safetensors(path, tensors, metadata)
    tensors |= _calibrate(path, tensors)
    write_safetensors(path, tensors, metadata)


def random_tensors(architecture: Architecture) -> dict[str, Tensor]:
    """A checkpoint's tensors, in fp16, with a VAE that is not calibrated."""
    shapes = checkpoint_shapes(architecture)
    tensors = {name: random_tensor(name, shape).half() for name, shape in shapes.items()}
    tensors[f"{TE1_PREFIX}text_model.embeddings.position_ids"] = torch.arange(TOKENS).reshape(1, TOKENS)
    return tensors


@torch.no_grad()
def _calibrate(path: str | PathLike[str], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The last layer of the VAE's encoder, so that latents of pictures have mean 0 and deviation 1 / VAE_SCALE.

    Rounded to two digits: the machine's own rounding must not show in the bytes.
    """
    pictures = torch.stack([to_tensor(draw(index, (128, 128)).image) for index in range(8)])
    vae = load_vae(path, device="cpu", dtype=torch.float32)
    means_BCHW = vae.encode(pictures).latent_dist.mean
    weight = tensors[f"{VAE_PREFIX}quant_conv.weight"].float().clone()
    bias = torch.zeros(2 * LATENT_CHANNELS)
    for channel in range(LATENT_CHANNELS):
        values = means_BCHW[:, channel]
        scale = _two_digits(1 / VAE_SCALE / values.std().item())
        weight[channel] *= scale
        bias[channel] = -_two_digits(scale * values.mean().item())
    # The noise of the encoder: small, as in the published model, and nearly the same everywhere.
    weight[LATENT_CHANNELS:] *= 0.1
    bias[LATENT_CHANNELS:] = -4.0
    return {f"{VAE_PREFIX}quant_conv.weight": weight.half(), f"{VAE_PREFIX}quant_conv.bias": bias.half()}


def _two_digits(value: float) -> float:
    return float(f"{value:.1e}")
