"""Pictures from prompts, to see what a LoRA does.

Euler ancestral as diffusers has it, with the settings that SDXL was published with (leading spacing, offset 1).
All randomness of a picture comes from a generator of its own on the CPU, so a picture is the same on every
device up to rounding, and training goes on as if nobody had looked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.schedulers.scheduling_euler_ancestral_discrete import EulerAncestralDiscreteScheduler
from PIL import Image
from torch import Tensor, nn

from lora_worker.architecture import LATENT_CHANNELS, VAE_FACTOR, VAE_SCALE, Architecture
from lora_worker.device_memory import first_that_fits
from lora_worker.errors import bad_input, non_finite
from lora_worker.job import Job
from lora_worker.models import Models, size_embedding_inputs


@dataclass(frozen=True)
class SamplePrompt:
    """One line of a prompt file. Sizes in pixels; `scale` is the guidance, and 1 or less means none."""

    prompt: str
    negative_prompt: str
    width: int
    height: int
    seed: int
    steps: int
    scale: float
    sampler: Literal["euler_a"] = "euler_a"

    @staticmethod
    def parse(fields: dict[str, Any]) -> SamplePrompt:
        """From the protocol's message. Raises `bad-input`."""
        prompt = SamplePrompt(
            prompt=str(fields["prompt"]),
            negative_prompt=str(fields["negative_prompt"]),
            width=int(fields["width"]),
            height=int(fields["height"]),
            seed=int(fields["seed"]),
            steps=int(fields["steps"]),
            scale=float(fields["scale"]),
            sampler=fields["sampler"],
        )
        if prompt.sampler != "euler_a":
            raise bad_input(f'The sampler "{prompt.sampler}" is not known.', hint='Use "euler_a".')
        if prompt.steps < 1 or min(prompt.width, prompt.height) < 64:
            raise bad_input(f"A sample needs at least one step and 64 pixels: {prompt}.")
        if prompt.width % VAE_FACTOR or prompt.height % VAE_FACTOR:
            raise bad_input(f"{prompt.width}x{prompt.height} is no multiple of {VAE_FACTOR} pixels.")
        return prompt


Text = tuple[Tensor, Tensor]
"""Context [B, 75 N + 2, C] and pooled text [B, P] of `captions_of` a prompt."""


@contextmanager
def cancellable(models: Models, job: Job) -> Iterator[None]:
    """Within the block a cancel is heard before every pass of the UNet: one picture takes as long as many steps."""
    hearing = models.unet.register_forward_pre_hook(lambda *_: job.check_cancelled())
    try:
        yield
    finally:
        hearing.remove()


def captions_of(prompt: SamplePrompt) -> tuple[str, ...]:
    """What has to be encoded for a prompt, and decides its `Text` besides the text encoders."""
    return (prompt.negative_prompt, prompt.prompt) if _is_guided(prompt) else (prompt.prompt,)


@torch.no_grad()
def encode(models: Models, prompt: SamplePrompt) -> Text:
    """The part of a picture that only the text encoders have to do with."""
    context, pooled = models.text.encode(captions_of(prompt))
    return context.to(models.dtype), pooled.to(models.dtype)


@torch.no_grad()
def render(
    models: Models,
    vae: AutoencoderKL,
    prompt: SamplePrompt,
    *,
    device: torch.device | str | None = None,
    text: Text | None = None,
) -> Image.Image:
    """The picture of a prompt. `text` is what `encode` gives, for whoever has it already.

    Raises `non-finite` when the numbers run away.
    """
    device = models.device if device is None else device
    latents_1CHW = _denoise(models, prompt, text or encode(models, prompt), torch.device(device))
    pixels = _decode(vae, latents_1CHW / VAE_SCALE)
    if not torch.isfinite(pixels).all():
        raise non_finite(
            f'The picture of "{prompt.prompt}" is not made of numbers any more.',
            hint="A learning rate that is too high does this; so does a VAE in half precision.",
        )
    return _to_image(pixels[0])


def _is_guided(prompt: SamplePrompt) -> bool:
    return prompt.scale > 1


def _decode(vae: AutoencoderKL, latents_1CHW: Tensor) -> Tensor:
    """Where the device's memory is too small, on the CPU from then on: slower, and the same picture."""

    def decode() -> Tensor:
        return vae.decode(latents_1CHW.to(vae.device, vae.dtype), return_dict=False)[0]

    return first_that_fits(vae.device, decode, decode, lambda: nn.Module.to(vae, "cpu") and decode())


def _denoise(models: Models, prompt: SamplePrompt, text: Text, device: torch.device) -> Tensor:
    scheduler = _scheduler(models.architecture)
    scheduler.set_timesteps(prompt.steps, device=device)
    generator = torch.Generator("cpu").manual_seed(prompt.seed)
    size = (prompt.width, prompt.height)
    guided = _is_guided(prompt)
    context, pooled = text
    copies = context.shape[0]
    sizes = torch.tensor([size_embedding_inputs(size, (0, 0), size)] * copies, device=device)

    shape = (1, LATENT_CHANNELS, prompt.height // VAE_FACTOR, prompt.width // VAE_FACTOR)
    latents = torch.randn(shape, generator=generator).to(device) * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        scaled = scheduler.scale_model_input(latents, timestep).to(models.dtype)
        batch = scaled.expand(copies, -1, -1, -1)
        output = _predict(models, batch, timestep.expand(copies), context, pooled, sizes).float()
        if guided:
            without, with_prompt = output.chunk(2)
            output = without + prompt.scale * (with_prompt - without)
        latents = scheduler.step(output, timestep, latents, generator=generator, return_dict=False)[0]
    return latents


def _predict(models: Models, *inputs: Tensor) -> Tensor:
    """With and without the prompt at once, or where memory is too small for that, one after the other."""

    def at_once() -> Tensor:
        return models.predict(*inputs)

    def one_by_one() -> Tensor:
        return torch.cat([models.predict(*row) for row in zip(*(each.split(1) for each in inputs), strict=True)])

    return first_that_fits(models.device, at_once, at_once, one_by_one)


def _scheduler(architecture: Architecture) -> EulerAncestralDiscreteScheduler:
    snr = architecture.zero_terminal_snr
    return EulerAncestralDiscreteScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction" if architecture.prediction == "v" else "epsilon",
        # A schedule that ends in pure noise has to be begun at its very end.
        timestep_spacing="trailing" if snr else "leading",
        steps_offset=1,
        rescale_betas_zero_snr=snr,
    )


def _to_image(pixels_CHW: Tensor) -> Image.Image:
    values = ((pixels_CHW.float() + 1) * 127.5).round().clamp(0, 255).to("cpu", torch.uint8)
    return Image.fromarray(np.ascontiguousarray(values.permute(1, 2, 0).numpy()))
