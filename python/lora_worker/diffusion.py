"""The diffusion process that SDXL was trained with: DDPM of 1000 timesteps, scaled-linear betas.

ᾱ is the share of the signal's variance that is left at a timestep. Shape letters: B images.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

TIMESTEPS = 1000
_FIRST_BETA = 0.00085
_LAST_BETA = 0.012


def alphas_cumprod(*, zero_terminal_snr: bool = False) -> Tensor:
    """ᾱ for t = 0 … 999, F32.

    With `zero_terminal_snr`, √ᾱ is shifted so that the last is 0 and scaled so that the first stays as it is.
    """
    betas = torch.linspace(_FIRST_BETA**0.5, _LAST_BETA**0.5, TIMESTEPS, dtype=torch.float32) ** 2
    alphas = torch.cumprod(1 - betas, dim=0)
    if not zero_terminal_snr:
        return alphas
    roots = alphas.sqrt()
    first, last = roots[0].clone(), roots[-1].clone()
    return ((roots - last) * (first / (first - last))) ** 2


def add_noise(latents: Tensor, noise: Tensor, timesteps_B: Tensor, alphas: Tensor) -> Tensor:
    """x_t = √ᾱ x₀ + √(1 − ᾱ) n."""
    signal, spread = _roots(timesteps_B, alphas, latents.dim())
    return signal * latents + spread * noise


def training_target(
    prediction: Literal["epsilon", "v"], latents: Tensor, noise: Tensor, timesteps_B: Tensor, alphas: Tensor
) -> Tensor:
    """What the UNet is to predict: the noise, or the velocity √ᾱ n − √(1 − ᾱ) x₀."""
    if prediction == "epsilon":
        return noise
    signal, spread = _roots(timesteps_B, alphas, latents.dim())
    return signal * noise - spread * latents


def posterior_sample(mean: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
    """A draw from the VAE's posterior, unscaled. The log-variance is clamped as the VAE's own code does."""
    return mean + torch.exp(0.5 * logvar.clamp(-30.0, 20.0)) * noise


def _roots(timesteps_B: Tensor, alphas: Tensor, dimensions: int) -> tuple[Tensor, Tensor]:
    """√ᾱ and √(1 − ᾱ), shaped to multiply a tensor of that many dimensions."""
    chosen = alphas[timesteps_B].reshape(-1, *[1] * (dimensions - 1))
    return chosen.sqrt(), (1 - chosen).sqrt()
