"""How much arithmetic a training is, and how fast a device can do arithmetic at all.

Operations are counted by torch's own counter while the very functions of a step run on tensors without data, so it
takes seconds and no memory, whatever the device. What checkpointing computes a second time is not counted: the fewest
operations are what a step is held against.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from lora_worker.architecture import LATENT_CHANNELS, VAE_FACTOR
from lora_worker.bench.options import DTYPES
from lora_worker.loss import ImageLoss
from lora_worker.models import Models, load_models, load_vae
from lora_worker.naming import LoraTarget
from lora_worker.network import Network, create
from lora_worker.network_targets import chosen_targets, offered_norms
from lora_worker.random_base import RandomBase
from lora_worker.text import CHUNK, TOKENS
from lora_worker.train_request import Train, TrainSettings
from lora_worker.training import image_losses, trained_components
from lora_worker.visits import MicroBatch

Size = tuple[int, int]
"""Width, height in pixels."""

META = torch.device("meta")


@dataclass(frozen=True)
class Work:
    """Operations, two for each multiplication that is added up. `forward` and `trained` are those of an image."""

    forward: float
    trained: float
    sampling: float
    """All pictures of the whole training."""
    in_steps: float
    """All steps of the whole training."""


def work_of(asked: Train, base: RandomBase, models: Models, network: Network) -> Work:
    """The arithmetic of a training, with each bucket as often as images are in it, on what `meta_network` gives."""
    settings = asked.settings
    dtype = getattr(torch, DTYPES[settings.mixed_precision])
    buckets = Counter(image.bucket for image in asked.images)
    total = sum(buckets.values())
    forward = trained = 0.0
    network.attach()
    for bucket, count in buckets.items():
        one_way, there_and_back = _image(models, network, settings, bucket, dtype)
        forward += one_way * count / total
        trained += there_and_back * count / total
    prompts = Counter((prompt.width, prompt.height, prompt.steps, prompt.scale) for prompt in asked.prompts)
    of_one_step = sum(_picture(models, base, *prompt, dtype) * count for prompt, count in prompts.items())
    return Work(
        forward, trained, len(asked.sample_steps) * of_one_step, trained * settings.images_per_step * asked.until
    )


def meta_network(asked: Train, base: RandomBase) -> tuple[Models, Network]:
    """What a training trains, without data."""
    dtype = getattr(torch, DTYPES[asked.settings.mixed_precision])
    models = load_models(replace(base, device="meta"), device=META, dtype=dtype)
    return models, create(models, targets_of(models, asked.settings), asked.settings.network, seed=0)


def targets_of(models: Models, settings: TrainSettings) -> Sequence[LoraTarget]:
    offered = (*models.targets(), *offered_norms(models.architecture, settings.network))
    return chosen_targets(offered, settings.network, trained_components(settings))


def matrix_product(device: torch.device, dtype: torch.dtype) -> tuple[int, float]:
    """The side of a square matrix, and the operations per second that a product of two such reaches.

    Best of several rounds, each long enough to hide its start. Of random numbers: a GPU runs faster on zeros.
    """
    side, products, rounds = (8192, 20, 8) if device.type == "cuda" else (1024, 2, 8)
    generator = torch.Generator(device).manual_seed(0)
    one, two = (torch.randn(side, side, generator=generator, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(one)
    best = float("inf")
    for _ in range(rounds):
        _wait(device)
        started = time.perf_counter()
        for _ in range(products):
            torch.mm(one, two, out=out)
        _wait(device)
        best = min(best, time.perf_counter() - started)
    return side, 2.0 * side**3 * products / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _image(
    models: Models, network: Network, settings: TrainSettings, bucket: Size, dtype: torch.dtype
) -> tuple[float, float]:
    """Operations of one image's way through the frozen UNet, and of its whole part in a step."""
    batch = _meta_batch(settings, bucket)
    loss = ImageLoss(settings.loss, settings.weights, prediction="epsilon", zero_terminal_snr=False, device=META)
    trains_text = settings.text_encoder_lr > 0
    with FlopCounterMode(display=False) as whole:
        image_losses(models, batch, loss, dtype=dtype, trains_text=trains_text).sum().backward()
    network.remove()
    with torch.no_grad(), FlopCounterMode(display=False) as frozen:
        _pass(models, bucket, dtype)
    network.attach()
    return frozen.get_total_flops(), whole.get_total_flops()


def _pass(models: Models, bucket: Size, dtype: torch.dtype) -> None:
    width, height = bucket
    unet = models.architecture.unet
    models.predict(
        torch.empty(1, LATENT_CHANNELS, height // VAE_FACTOR, width // VAE_FACTOR, device=META, dtype=dtype),
        torch.empty(1, device=META, dtype=torch.int64),
        torch.empty(1, TOKENS, unet.context_width, device=META, dtype=dtype),
        torch.empty(1, models.architecture.pooled_width, device=META, dtype=dtype),
        torch.empty(1, 6, device=META),
    )


def _picture(
    models: Models, base: RandomBase, width: int, height: int, steps: int, scale: float, dtype: torch.dtype
) -> float:
    vae = load_vae(replace(base, device="meta"), device=META, dtype=torch.float32)
    latents = torch.empty(1, LATENT_CHANNELS, height // VAE_FACTOR, width // VAE_FACTOR, device=META)
    with torch.no_grad():
        with FlopCounterMode(display=False) as unet:
            _pass(models, (width, height), dtype)
        with FlopCounterMode(display=False) as decoding:
            vae.decode(latents)
    passes = steps * (2 if scale > 1 else 1)
    return passes * unet.get_total_flops() + decoding.get_total_flops()


def _meta_batch(settings: TrainSettings, bucket: Size) -> MicroBatch:
    latents = torch.empty(1, LATENT_CHANNELS, bucket[1] // VAE_FACTOR, bucket[0] // VAE_FACTOR, device=META)
    ids = torch.empty(1, settings.max_token_length // CHUNK, TOKENS, device=META, dtype=torch.int64)
    return MicroBatch(
        images=(),
        noisy_B4HW=latents,
        target_B4HW=latents,
        timesteps_B=torch.empty(1, device=META, dtype=torch.int64),
        sizes_B6=torch.empty(1, 6, device=META),
        ids_one_BNT=ids,
        ids_two_BNT=ids,
        weights_B=torch.empty(1, device=META),
    )
