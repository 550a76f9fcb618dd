"""A checkpoint with SDXL's names and topology, narrow layers, and random weights that behave.

The bytes follow from the size's name alone. Every tensor has a random stream of its own, seeded by its name, so a
change of one shape leaves the other tensors alone. Residual branches start quiet, so that activations neither vanish
nor explode over 70 transformer layers, and the VAE is calibrated on drawn pictures: latents times 0.13025 have mean
0 and standard deviation 1, as the UNet of a trained model expects.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
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
    Shape,
    TextShape,
    UNetShape,
    VaeShape,
)
from lora_worker.images import to_tensor
from lora_worker.models import load_vae
from lora_worker.safetensors_file import write_safetensors
from lora_worker.toy.pictures import draw
from lora_worker.toy.shapes import checkpoint_shapes


def _toy(
    *,
    widths: tuple[int, int, int],
    depths: tuple[int, int, int],
    layers: tuple[int, int],
    text_widths: tuple[int, int],
    vae: tuple[int, int, int, int],
) -> Architecture:
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
    "quickstart": _toy(
        widths=(32, 64, 128), depths=(0, 2, 10), layers=(12, 32), text_widths=(32, 64), vae=(32, 64, 96, 96)
    ),
    # Fewer layers, for tests that want a training step in a fraction of a second.
    "test": _toy(widths=(32, 64, 128), depths=(0, 1, 1), layers=(2, 2), text_widths=(32, 64), vae=(32, 32, 64, 64)),
}


def write_toy_checkpoint(path: str | PathLike[str], size: str = "quickstart") -> None:
    """Writes a checkpoint of one of `SIZES`, in fp16. Twice the same call, twice the same bytes."""
    shapes = checkpoint_shapes(SIZES[size])
    tensors = {name: _random_tensor(name, shape).half() for name, shape in shapes.items()}
    tensors[f"{TE1_PREFIX}text_model.embeddings.position_ids"] = torch.arange(TOKENS).reshape(1, TOKENS)
    metadata = {"modelspec.title": f"lorac toy ({size})", "modelspec.architecture": "stable-diffusion-xl-v1-base"}
    write_safetensors(path, tensors, metadata)
    tensors |= _calibrate(path, tensors)
    write_safetensors(path, tensors, metadata)


@dataclass(frozen=True)
class _Spread:
    """How wide the values of the tensors spread whose name ends so."""

    ending: str
    deviation: float | None = None
    gain: float = 1.0


# The first that matches holds. A gain is relative to the spread that keeps the variance from inputs to outputs.
_SPREADS = (
    _Spread(r"token_embedding\.weight", deviation=0.5),
    _Spread(r"(position_embedding\.weight|positional_embedding)", deviation=0.2),
    _Spread(r"(out_layers\.3|conv2|to_out\.0|ff\.net\.2|proj_out|out_proj|fc2|c_proj)\.weight", gain=0.3),
    _Spread(r"model\.out\.2\.weight", gain=0.3),
    _Spread(r"decoder\.conv_out\.weight", gain=0.5),
    _Spread(r"", gain=1.0),
)


def _random_tensor(name: str, shape: Shape) -> Tensor:
    if name.endswith("bias"):
        return torch.zeros(shape)
    if len(shape) == 1:  # norms
        return torch.ones(shape)
    spread = next(spread for spread in _SPREADS if re.search(f"{spread.ending}$", name))
    deviation = spread.gain / prod(shape[1:]) ** 0.5 if spread.deviation is None else spread.deviation
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "little")
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * deviation


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
