"""The toy's autoencoder: from random weights to one that keeps what is to be seen in scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from scenes import draw_scene
from steps import Descent, mixed_precision
from torch import Tensor

from lora_worker.architecture import LATENT_CHANNELS, VAE_SCALE
from lora_worker.diffusion import posterior_sample
from lora_worker.images import to_tensor

_SIDE = 128
_WEIGHT_OF_DIVERGENCE = 1e-4


@dataclass(frozen=True)
class Round:
    steps: int
    seed: int
    any_colors: bool = True
    """Of scenes in all colours, not only in those that have names."""
    decoder_only: bool = False


def learn_autoencoder(vae: AutoencoderKL, rounds: Sequence[Round]) -> None:
    """Lowers the absolute error of pixels and of their differences, and a little the KL divergence.

    Ends calibrated: latents of scenes as they are drawn, times `VAE_SCALE`, have mean 0 and deviation 1.
    """
    for each in rounds:
        vae.train()
        for encoder in (vae.encoder, vae.quant_conv):
            encoder.requires_grad_(not each.decoder_only)
        random = Random(each.seed)
        _learn(vae, each, random)
        vae.eval()
        if not each.decoder_only:
            _calibrate(vae, random, batches=min(32, each.steps))


def _learn(vae: AutoencoderKL, how: Round, random: Random) -> None:
    generator = torch.Generator().manual_seed(how.seed)
    descent = Descent("decoder" if how.decoder_only else "autoencoder", vae, how.steps)
    for index in range(how.steps):
        # Crops for many different edges; whole scenes, since norms take in all of a picture and have to meet it.
        pixels = _crops(random, 2, _SIDE) if index % 5 == 4 else _crops(random, 8, 48)
        if how.any_colors:
            pixels = _recolored(pixels, generator)
        with mixed_precision():
            posterior = vae.encode(pixels).latent_dist
            mean, logvar = posterior.mean.float(), posterior.logvar.float()
            noise = torch.randn(mean.shape, generator=generator)
            decoded = vae.decode(posterior_sample(mean, logvar, noise)).sample.float()
        divergence = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        loss = _difference(decoded, pixels) + _WEIGHT_OF_DIVERGENCE * divergence
        descent.step(index, loss, f", divergence {divergence.item():.2f}")


def _crops(random: Random, count: int, side: int) -> Tensor:
    """Parts of square scenes, [count, 3, side, side]."""
    parts = []
    for _ in range(count):
        left, top = (random.randrange(0, _SIDE + 1 - side) for _ in range(2))
        parts.append(to_tensor(draw_scene(random, (_SIDE, _SIDE)).image)[:, top : top + side, left : left + side])
    return torch.stack(parts)


def _recolored(pixels_B3HW: Tensor, generator: torch.Generator) -> Tensor:
    """Each picture with its channels in another order, and mixed with a colour of its own."""
    count = len(pixels_B3HW)
    orders_B3 = torch.rand(count, 3, generator=generator).argsort(dim=1)
    reordered = pixels_B3HW.gather(1, orders_B3[:, :, None, None].expand_as(pixels_B3HW))
    color = 2 * torch.rand(count, 3, 1, 1, generator=generator) - 1
    return reordered.lerp(color, 0.5 * torch.rand(count, 1, 1, 1, generator=generator))


def _difference(decoded: Tensor, pixels: Tensor) -> Tensor:
    slopes = ((decoded.diff(dim=axis) - pixels.diff(dim=axis)).abs().mean() for axis in (2, 3))
    return (decoded - pixels).abs().mean() + sum(slopes)


@torch.no_grad()
def _calibrate(vae: AutoencoderKL, random: Random, *, batches: int) -> None:
    """Moves and scales each latent channel behind the encoder, and takes that back before the decoder."""
    means_BCHW = torch.cat([vae.encode(_crops(random, 8, _SIDE)).latent_dist.mean for _ in range(batches)])
    shift_C, deviation_C = means_BCHW.mean((0, 2, 3)), means_BCHW.std((0, 2, 3))
    scale_C = 1 / (VAE_SCALE * deviation_C)
    encoder, decoder = vae.quant_conv, vae.post_quant_conv
    decoder.bias += decoder.weight[:, :, 0, 0] @ shift_C
    decoder.weight /= scale_C[:, None, None]
    encoder.weight[:LATENT_CHANNELS] *= scale_C[:, None, None, None]
    encoder.bias[:LATENT_CHANNELS] = scale_C * (encoder.bias[:LATENT_CHANNELS] - shift_C)
    encoder.bias[LATENT_CHANNELS:] += 2 * scale_C.log()
