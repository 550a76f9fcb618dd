"""What a trained LoRA's file says about itself, in sd-scripts' and modelspec's words.

Readers tell SDXL by `ss_base_model_version`, and show ranks and rates. There are no times, random ids, paths, captions
or facts about the machine, and nothing that does not change the result: the same training gives the same bytes.
`save` puts the name in.
"""

from __future__ import annotations

import json

from lora_worker.architecture import Architecture
from lora_worker.network_metadata import network_metadata
from lora_worker.schedules import describe, warmup_steps
from lora_worker.train_request import Train, TrainSettings


def training_metadata(work: Train, architecture: Architecture, *, step: int, epoch: int) -> dict[str, str]:
    """Of the LoRA after `step` steps (1-based), the last of which began in `epoch` (from 0)."""
    settings = work.settings
    fields = {
        "base_model_version": "sdxl_base_v1-0",
        "v2": False,
        **network_metadata(settings.network),
        **_optimization(settings),
        **_numerics(settings, architecture),
        **_as_in_sd_scripts(settings),
        **_norms(settings),
        "num_train_images": sum(image.repeats for image in work.images if not image.regularization),
        **_regularization(work),
        **_captions(settings),
        "flip_aug": any(image.latents_flipped is not None for image in work.images),
        "cache_latents": True,
        "enable_bucket": True,
        "resolution": str(settings.resolution),
        "steps": step,
        "epoch": epoch,
    }
    return {**{f"ss_{key}": str(value) for key, value in fields.items()}, **_modelspec(settings, architecture)}


def _regularization(work: Train) -> dict[str, object]:
    regularization = work.settings.regularization
    if regularization is None:
        return {}
    return {
        "num_reg_images": sum(image.repeats for image in work.images if image.regularization),
        "prior_loss_weight": regularization.prior_loss_weight,
    }


def _captions(settings: TrainSettings) -> dict[str, object]:
    """Of what is usually off, only what is on."""
    captions = settings.captions
    unusual = {
        "keep_tokens": captions.keep_tokens,
        "caption_dropout_rate": captions.caption_dropout_rate,
        "caption_dropout_every_n_epochs": captions.caption_dropout_every_n_epochs,
        "caption_tag_dropout_rate": captions.caption_tag_dropout_rate,
        "max_token_length": settings.max_token_length if settings.max_token_length != 75 else None,
    }
    return {"shuffle_caption": captions.shuffle_caption} | {name: value for name, value in unusual.items() if value}


def _optimization(settings: TrainSettings) -> dict[str, object]:
    scheduler, scheduler_arguments = describe(settings.lr_scheduler)
    fields: dict[str, object] = {
        "optimizer": settings.optimizer.written(),
        "learning_rate": settings.unet_lr,
        "unet_lr": settings.unet_lr,
        "text_encoder_lr": settings.text_encoder_lr,
        **_rate_factors(settings),
        "lr_scheduler": scheduler,
        "lr_warmup_steps": warmup_steps(settings.lr_scheduler, settings.steps),
        "max_grad_norm": settings.max_grad_norm,
        "max_train_steps": settings.steps,
        "batch_size_per_device": settings.batch_size,
        "gradient_accumulation_steps": settings.gradient_accumulation_steps,
    }
    if scheduler_arguments:
        plain = {name: _plain(value) for name, value in scheduler_arguments.items()}
        fields["lr_scheduler_args"] = json.dumps(plain)
    return fields


def _norms(settings: TrainSettings) -> dict[str, object]:
    return {} if settings.scale_weight_norms is None else {"scale_weight_norms": settings.scale_weight_norms}


def _rate_factors(settings: TrainSettings) -> dict[str, object]:
    """Only where there are some, so that other files say what they always said."""
    ratio = {} if settings.loraplus_lr_ratio == 1 else {"loraplus_lr_ratio": settings.loraplus_lr_ratio}
    return {**ratio, **({"block_lr": json.dumps(dict(settings.block_lr))} if settings.block_lr else {})}


def _numerics(settings: TrainSettings, architecture: Architecture) -> dict[str, object]:
    noise = settings.noise
    return {
        "seed": settings.seed,
        "mixed_precision": "bf16" if settings.mixed_precision == "bf16" else "no",
        **_fp8(settings),
        **_loss(settings),
        **_changed(settings.weights),
        **_changed(settings.noise_settings),
        "zero_terminal_snr": architecture.zero_terminal_snr,
        "multires_noise_iterations": noise.iterations if noise else None,
        "multires_noise_discount": noise.discount if noise else None,
    }


def _fp8(settings: TrainSettings) -> dict[str, object]:
    """sd-scripts' words. Only where it is used, so that other files say what they always said."""
    if settings.fp8_base == "off":
        return {}
    return {"fp8_base": settings.fp8_base == "on", "fp8_base_unet": settings.fp8_base == "unet"}


def _as_in_sd_scripts(settings: TrainSettings) -> dict[str, object]:
    """Where sd-scripts is reproduced. What is not told is as we have it: the pooled text is x·P, the crop is real,
    latents are drawn at each visit, each image weighs the same, and noise is divided by the deviation of its image."""
    told = {
        "text_projection": settings.text_projection,
        "crop_conditioning": settings.crop_conditioning,
        "latents": settings.latents,
        "accumulation": settings.accumulation,
        "multires_noise_std_axes": settings.noise.std_axes if settings.noise else "image",
    }
    ours = {"true", "real", "fresh", "images", "image"}
    return {name: word for name, word in told.items() if word not in ours}


def _loss(settings: TrainSettings) -> dict[str, object]:
    loss = settings.loss
    if loss.kind in ("l2", "l1"):
        return {"loss_type": loss.kind}
    return {
        "loss_type": loss.kind,
        "huber_schedule": loss.schedule,
        "huber_c": loss.c,
        "huber_scale": loss.scale,
    }


def _changed(settings: object) -> dict[str, object]:
    """Fields of a dataclass that are not as they are when nobody sets them."""
    usual = vars(type(settings)())
    return {name: value for name, value in vars(settings).items() if value != usual[name]}


def _modelspec(settings: TrainSettings, architecture: Architecture) -> dict[str, str]:
    width, height = settings.resolution
    return {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.title": "lora",
        "modelspec.resolution": f"{width}x{height}",
        "modelspec.prediction_type": architecture.prediction,
    }


def _plain(value: float | str) -> int | float | str:
    """4 for 4.0, as people write it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
