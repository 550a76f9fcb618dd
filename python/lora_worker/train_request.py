"""The request `train`, parsed once at the door. src/runtime/worker/protocol.ts describes every field."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lora_worker.captions import CaptionSettings
from lora_worker.described import described, later
from lora_worker.diffusion import TIMESTEPS
from lora_worker.folder_checkpoint import parse_base
from lora_worker.fp8 import FP8_BASE, Fp8Base
from lora_worker.launch import Launch
from lora_worker.loss import ElementLoss, LossWeights
from lora_worker.masks import AS_IT_IS, MaskedLoss
from lora_worker.network_settings import NetworkSettings, parse_network
from lora_worker.noise_settings import NoiseSettings
from lora_worker.open_base import BaseFiles
from lora_worker.optimizers import OptimizerSettings, parse_optimizer
from lora_worker.process import Process
from lora_worker.protocol import Fields, ProtocolError
from lora_worker.sampling import SamplePrompt
from lora_worker.schedules import Schedule, parse_schedule

Size = tuple[int, int]
"""Width, height."""

# Raised when equal requests should train differently, so that states from before are not gone on from.
_REVISION = 1


@dataclass(frozen=True)
class TrainImage:
    """`index` tells equal images apart. Sizes in pixels; `original` is after EXIF orientation and before resizing."""

    digest: str
    index: int
    latents: str
    latents_flipped: str | None
    caption: str
    original: Size
    resized: Size
    crop: tuple[int, int]
    bucket: Size
    repeats: int
    regularization: bool
    mask: str | None = later(None)
    """What says how much each place counts. The latents then hold a `mask`."""


@dataclass(frozen=True)
class Regularization:
    """Images that keep what the base knows: half of all visits. Each's loss is multiplied by `prior_loss_weight`."""

    captions: CaptionSettings
    prior_loss_weight: float


@dataclass(frozen=True)
class MultiresNoise:
    iterations: int
    discount: float
    std_axes: Literal["image", "batch"]


@dataclass(frozen=True)
class TrainSettings:
    """`noise` None is plain normal noise."""

    seed: int
    captions: CaptionSettings
    regularization: Regularization | None
    network: NetworkSettings
    optimizer: OptimizerSettings
    unet_lr: float
    text_encoder_lr: float
    loraplus_lr_ratio: float
    block_lr: Mapping[str, float]
    lr_scheduler: Schedule
    max_grad_norm: float
    steps: int
    batch_size: int
    gradient_accumulation_steps: int
    noise: MultiresNoise | None
    accumulation: Literal["images", "sd_scripts"]
    text_projection: Literal["true", "transposed"]
    noise_settings: NoiseSettings
    process: Process
    loss: ElementLoss
    weights: LossWeights
    max_token_length: Literal[75, 150, 225]
    mixed_precision: Literal["bf16", "fp32"]
    save_precision: Literal["fp16", "bf16", "fp32"]
    gradient_checkpointing: Literal["auto", "on", "off"]
    on_non_finite: Literal["stop", "skip"]
    resolution: Size
    crop_conditioning: Literal["real", "sd_scripts"] = later("real")
    latents: Literal["fresh", "frozen"] = later("fresh")
    vram: int | None = later(None)
    """Bytes that the training may take of the device. None: what is free."""
    ema: float | None = later(None)
    scale_weight_norms: float | None = later(None)
    masked_loss: MaskedLoss = later(AS_IT_IS)  # noqa: RUF009 (it never changes)
    blocks_to_swap: int = later(0)
    compile: bool = later(False)
    fp8_base: Fp8Base = later("off")  # noqa: RUF009 (it never changes)

    @property
    def images_per_step(self) -> int:
        return self.batch_size * self.gradient_accumulation_steps


@dataclass(frozen=True)
class EverySteps:
    steps: int


@dataclass(frozen=True)
class EverySeconds:
    seconds: float


@dataclass(frozen=True)
class HeldOut:
    """Images that are measured with and not learned from, at the end of these steps."""

    images: tuple[TrainImage, ...]
    timesteps: tuple[int, ...]
    steps: frozenset[int]


@dataclass(frozen=True)
class Init:
    """The LoRA that the network begins as."""

    lora: str
    digest: str


@dataclass(frozen=True)
class Train:
    """Steps are 1-based. `until` is the last that is done. `init` None: the network begins by changing nothing.
    `launch` None: one process trains."""

    checkpoint: BaseFiles
    work: Path
    images: tuple[TrainImage, ...]
    settings: TrainSettings
    init: Init | None
    save_steps: frozenset[int]
    until: int
    held_out: HeldOut | None
    sample_steps: frozenset[int]
    """0: before the first."""
    prompts: tuple[SamplePrompt, ...]
    sample_labels: tuple[str, ...]
    """What stands beside the pictures of each prompt."""
    given_samples: Mapping[int, str]
    """Pictures of step 0 that there are already, by the number of the prompt."""
    state_every: EverySteps | EverySeconds
    events: str | None
    """The folder for TensorBoard's event files. None: there are none."""
    launch: Launch | None = None

    def identity(self, checkpoint_facts: str) -> str:
        """A digest of what decides the training's result. States and outputs of another identity are not used."""
        # What a training does about bad numbers may be said when it met them: it goes on from where it stopped.
        unheard = ("gradient_checkpointing", "blocks_to_swap", "compile", "on_non_finite", "vram")
        settings = {name: value for name, value in described(self.settings).items() if name not in unheard}
        schedule = type(self.settings.lr_scheduler).__name__
        images = [
            {**described(image), "latents": None, "latents_flipped": image.latents_flipped is not None}
            for image in sorted(self.images, key=lambda image: (image.digest, image.index))
        ]
        begins = [] if self.init is None else [self.init.digest]
        all_of_it = [_REVISION, checkpoint_facts, schedule, settings, images, *begins]
        return hashlib.sha256(json.dumps(all_of_it, sort_keys=True).encode()).hexdigest()


def parse_train(value: Mapping[str, Any]) -> Train:
    """Raises ProtocolError."""
    work = Fields(dict(value), "work")
    samples = work.record("samples")
    prompts = samples.records("prompts", lambda prompt: SamplePrompt.parse(prompt.raw))
    settings = _settings(work.record("settings"))
    images = work.records("images", _image)
    until = _until(work, settings.steps)
    if not any(image.repeats > 0 for image in images if not image.regularization):
        raise ProtocolError('"work.images" must have an image')
    if settings.regularization is None and any(image.regularization for image in images):
        raise ProtocolError('"work.settings.regularization" is needed for images of that kind')
    return Train(
        checkpoint=parse_base(work),
        work=Path(work.text("work")),
        images=images,
        settings=settings,
        init=_init(work),
        save_steps=_steps(work, "save_steps", until),
        until=until,
        held_out=_held_out(work, until),
        sample_steps=_steps(samples, "steps", until, first=0),
        prompts=prompts,
        sample_labels=_sample_labels(samples, len(prompts)),
        given_samples=_given_samples(samples, len(prompts)),
        state_every=_state_every(work.record("state_every")),
        events=work.optional_text("events"),
        launch=Launch.parse(work),
    )


def _init(work: Fields) -> Init | None:
    if work.raw.get("init") is None:
        return None
    init = work.record("init")
    return Init(init.text("lora"), init.text("digest"))


def _steps(fields: Fields, name: str, last: int, first: int = 1) -> frozenset[int]:
    return frozenset(step for step in fields.whole_list(name) if first <= step <= last)


def _sample_labels(samples: Fields, prompts: int) -> tuple[str, ...]:
    labels = samples.text_list("labels")
    if len(labels) != prompts:
        raise ProtocolError(f'"{samples.where}.labels" must be as many as the prompts, {prompts}, not {len(labels)}')
    return labels


def _given_samples(samples: Fields, prompts: int) -> Mapping[int, str]:
    given = dict(samples.records("given", lambda one: (one.whole("index"), one.text("picture"))))
    if not all(0 <= index < prompts for index in given):
        raise ProtocolError(f'"{samples.where}.given" has a picture of a prompt that is not there')
    return given


def _held_out(work: Fields, until: int) -> HeldOut | None:
    if work.any("held_out") is None:
        return None
    held_out = work.record("held_out")
    images = held_out.records("images", _image)
    if not images:
        raise ProtocolError(f'"{held_out.where}.images" must have an image')
    timesteps = tuple(held_out.whole_list("timesteps"))
    if not timesteps or not all(0 <= timestep < TIMESTEPS for timestep in timesteps):
        raise ProtocolError(f'"{held_out.where}.timesteps" must be numbers from 0 to {TIMESTEPS - 1}')
    return HeldOut(images, timesteps, _steps(held_out, "steps", until))


def _until(work: Fields, steps: int) -> int:
    until = _positive(work, "until")
    if until > steps:
        raise ProtocolError(f'"work.until" must be at most {steps}, and is {until}')
    return until


def _image(image: Fields) -> TrainImage:
    return TrainImage(
        digest=image.text("digest"),
        index=image.whole("index"),
        latents=image.text("latents"),
        latents_flipped=image.optional_text("latents_flipped"),
        caption=image.text("caption"),
        original=image.pair("original"),
        resized=image.pair("resized"),
        crop=image.pair("crop"),
        bucket=image.pair("bucket"),
        repeats=image.whole("repeats"),
        regularization=image.flag("regularization"),
        mask=image.text("mask") if "mask" in image.raw else None,
    )


def _settings(settings: Fields) -> TrainSettings:
    return TrainSettings(
        seed=settings.whole("seed"),
        captions=_captions(settings.record("captions")),
        regularization=_regularization(settings),
        network=parse_network(settings.record("network")),
        optimizer=parse_optimizer(settings.record("optimizer")),
        unet_lr=settings.number("unet_lr"),
        text_encoder_lr=settings.number("text_encoder_lr"),
        loraplus_lr_ratio=settings.number("loraplus_lr_ratio"),
        block_lr=_block_rates(settings.record("block_lr")),
        lr_scheduler=parse_schedule(settings.record("lr_scheduler")),
        max_grad_norm=settings.number("max_grad_norm"),
        steps=_positive(settings, "steps"),
        batch_size=_positive(settings, "batch_size"),
        gradient_accumulation_steps=_positive(settings, "gradient_accumulation_steps"),
        noise=_noise(settings.record("noise")),
        accumulation=settings.one_of("accumulation", ("images", "sd_scripts")),
        text_projection=settings.one_of("text_projection", ("true", "transposed")),
        noise_settings=NoiseSettings.parse(settings),
        process=Process.parse(settings.raw.get("process"), f"{settings.where}.process"),
        loss=ElementLoss.parse(settings.record("loss")),
        weights=LossWeights.parse(settings),
        max_token_length=_max_token_length(settings),
        mixed_precision=settings.one_of("mixed_precision", ("bf16", "fp32")),
        save_precision=settings.one_of("save_precision", ("fp16", "bf16", "fp32")),
        gradient_checkpointing=settings.one_of("gradient_checkpointing", ("auto", "on", "off")),
        on_non_finite=settings.one_of("on_non_finite", ("stop", "skip")),
        resolution=settings.pair("resolution"),
        crop_conditioning=settings.one_of_or_first("crop_conditioning", ("real", "sd_scripts")),
        latents=settings.one_of_or_first("latents", ("fresh", "frozen")),
        vram=_positive(settings, "vram") if settings.raw.get("vram") is not None else None,
        ema=settings.number_if_there("ema"),
        scale_weight_norms=_length(settings),
        masked_loss=MaskedLoss.parse(settings.record("masked_loss")) if "masked_loss" in settings.raw else AS_IT_IS,
        blocks_to_swap=settings.whole("blocks_to_swap") if "blocks_to_swap" in settings.raw else 0,
        compile=settings.flag("compile") if "compile" in settings.raw else False,
        fp8_base=settings.one_of_or_first("fp8_base", FP8_BASE),
    )


def _length(settings: Fields) -> float | None:
    limit = settings.number_if_there("scale_weight_norms")
    if limit is not None and (limit <= 0 or settings.record("network").raw.get("kind") not in ("locon", "lokr")):
        raise ProtocolError(
            f'"{settings.where}.scale_weight_norms" must be above 0, of a locon or a lokr, and is {limit}'
        )
    return limit


def _regularization(settings: Fields) -> Regularization | None:
    if settings.any("regularization") is None:
        return None
    fields = settings.record("regularization")
    return Regularization(_captions(fields.record("captions")), fields.number("prior_loss_weight"))


def _captions(captions: Fields) -> CaptionSettings:
    separator = captions.text("caption_separator")
    if separator == "":
        raise ProtocolError(f'"{captions.where}.caption_separator" must not be empty')
    return CaptionSettings(
        caption_prefix=captions.optional_text("caption_prefix"),
        caption_suffix=captions.optional_text("caption_suffix"),
        caption_dropout_rate=captions.number("caption_dropout_rate"),
        caption_dropout_every_n_epochs=captions.whole("caption_dropout_every_n_epochs"),
        wildcards=captions.flag("wildcards"),
        shuffle_caption=captions.flag("shuffle_caption"),
        caption_separator=separator,
        keep_tokens=captions.whole("keep_tokens"),
        keep_tokens_separator=captions.optional_text("keep_tokens_separator"),
        token_warmup_step=captions.number("token_warmup_step"),
        token_warmup_min=captions.whole("token_warmup_min"),
        caption_tag_dropout_rate=captions.number("caption_tag_dropout_rate"),
        secondary_separator=captions.optional_text("secondary_separator"),
    )


def _block_rates(blocks: Fields) -> Mapping[str, float]:
    return {name: blocks.number(name) for name in sorted(blocks.raw)}


def _noise(noise: Fields) -> MultiresNoise | None:
    if noise.one_of("kind", ("multires", "plain")) == "plain":
        return None
    return MultiresNoise(
        noise.whole("iterations"), noise.number("discount"), noise.one_of("std_axes", ("image", "batch"))
    )


def _state_every(every: Fields) -> EverySteps | EverySeconds:
    return EverySteps(_positive(every, "steps")) if "steps" in every.raw else EverySeconds(every.number("seconds"))


def _max_token_length(settings: Fields) -> Literal[75, 150, 225]:
    number = settings.whole("max_token_length")
    if number == 75 or number == 150 or number == 225:
        return number
    raise ProtocolError(f'"{settings.where}.max_token_length" must be 75, 150 or 225, and is {number}')


def _positive(fields: Fields, name: str) -> int:
    number = fields.whole(name)
    if number < 1:
        raise ProtocolError(f'"{fields.where}.{name}" must be 1 or more, and is {number}')
    return number
