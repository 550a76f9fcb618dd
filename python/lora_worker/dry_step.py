"""What a training needs at its largest, found out before its first step, without a trace in it.

First it is counted (`memory_profile`), then one micro-batch of the largest bucket is computed forward and backward with
the plan that came of it, with gradients and the optimizer's memory in place. Where that takes more or less than was
counted, the plan is made again. No parameter changes, no random number is drawn, and no gradient stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from lora_worker.architecture import LATENT_CHANNELS, TOKENS, VAE_FACTOR
from lora_worker.device_memory import allocated, is_out_of_memory
from lora_worker.live_bytes import LiveBytes
from lora_worker.memory_profile import Profile, profile
from lora_worker.models import Models
from lora_worker.optimizer_bytes import optimizer_bytes
from lora_worker.streams import Visit
from lora_worker.text import CHUNK
from lora_worker.train_request import Train
from lora_worker.training import Trainer
from lora_worker.visits import MicroBatch

Size = tuple[int, int]
"""Width, height."""

_MOST_TRIES = 12


def fit(trainer: Trainer, work: Train, models: Models) -> None:
    """Plans the steps of a training on a device that says how much memory it has.

    Raises what the device raises when it is too small for the smallest plan.
    """
    memory = trainer.memory
    bucket = largest_bucket(work)
    trainer.bring_blocks()
    static, missing, missing_state = _static_bytes(trainer, work, models)
    memory.make_plan(_counted(trainer, work, models, bucket), static, missing, own_bytes(trainer.parameters))
    for _ in range(_MOST_TRIES):
        if work.settings.compile:
            # Compiling takes minutes, for passes that may then be cut otherwise. What is counted is enough: compiled
            # blocks keep less.
            return
        batch = blank_batch(work, bucket, memory.plan.micro_batch, models)
        try:
            measured = measured_peak(
                partial(trainer.backward, batch), trainer.parameters, missing_state, _weights(models)
            )
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or not memory.has_less([batch]):
                raise
            measured = None
        else:
            if measured is None or not memory.correct(measured):
                return
        if measured is None:
            memory.use_less([batch])


def _counted(trainer: Trainer, work: Train, models: Models, bucket: Size) -> Profile:
    def losses(fake: Models, images: int) -> Tensor:
        return trainer.plain_losses(fake, blank_batch(work, bucket, images, models))

    return profile(
        models.architecture,
        work.settings.network,
        trainer.targets,
        dtype=models.dtype,
        device=models.device,
        losses=losses,
    )


def _static_bytes(trainer: Trainer, work: Train, models: Models) -> tuple[int, int, int]:
    """Weights, network, gradients and the optimizer's memory; of them what is not there yet; of that the last."""
    own = own_bytes(trainer.parameters)
    state = optimizer_bytes(work.settings.optimizer, trainer.parameters)
    missing_state = 0 if trainer.optimizer.state else state
    present = allocated(models.device)
    if models.device.type != "cpu":
        return present + own + missing_state, own + missing_state, missing_state
    weights = sum(weight.untyped_storage().nbytes() for weight in _weights(models))
    # A CPU's limit is not what is free but what there is in all.
    static = weights + 2 * own + state
    return static, static, missing_state


def own_bytes(parameters: Sequence[nn.Parameter]) -> int:
    """Of parameters, of their gradients, and of each copy of either. There is one when a step's gradients are done and
    no activations are left: of the gradients while several processes sum them (`ranks`), then of the parameters while
    the optimizer moves them (`update_norms`)."""
    return sum(parameter.untyped_storage().nbytes() for parameter in parameters)


def _weights(models: Models) -> list[Tensor]:
    parts = (models.unet, models.text.one, models.text.two)
    return [tensor for part in parts for tensor in (*part.parameters(), *part.buffers())]


def largest_bucket(work: Train) -> Size:
    return max((image.bucket for image in work.images if image.repeats > 0), key=lambda size: (size[0] * size[1], size))


def blank_batch(work: Train, bucket: Size, images: int, models: Models) -> MicroBatch:
    """As large as a real one, of nothing. Where no text encoder is trained, the texts are encoded already."""
    device, encoded = models.device, None
    if work.settings.text_encoder_lr <= 0:
        tokens = work.settings.max_token_length + 2
        shapes = (images, tokens, models.architecture.unet.context_width), (images, models.architecture.pooled_width)
        encoded = [torch.zeros(shape, dtype=models.dtype, device=device) for shape in shapes]
    height, width = bucket[1] // VAE_FACTOR, bucket[0] // VAE_FACTOR
    chunks = work.settings.max_token_length // CHUNK
    latents_B4HW = torch.zeros(images, LATENT_CHANNELS, height, width, device=device)
    ids_BNT = torch.zeros(images, chunks, TOKENS, dtype=torch.int64, device=device)
    image = max(work.images, key=lambda image: image.repeats)
    has_masks = any(image.mask is not None for image in work.images)
    return MicroBatch(
        images=(image,) * images,
        visits=tuple(Visit(0, image.digest, image.index, place) for place in range(images)),
        noisy_B4HW=latents_B4HW,
        target_B4HW=latents_B4HW,
        timesteps_B=torch.zeros(images, dtype=torch.int64, device=device),
        sizes_B6=torch.zeros(images, 6, device=device),
        ids_one_BNT=ids_BNT,
        ids_two_BNT=ids_BNT,
        weights_B=torch.ones(images, device=device),
        masks_B1HW=torch.ones(images, 1, height, width, device=device) if has_masks else None,
        context_BTW=encoded and encoded[0],
        pooled_BP=encoded and encoded[1],
    )


def measured_peak(
    backward: Callable[[], None], parameters: Sequence[nn.Parameter], missing_state: int, weights: Sequence[Tensor]
) -> int | None:
    """What the activations of one micro-batch take at most, in bytes. None: the device does not tell.

    `backward` computes it. `missing_state`: what the optimizer does not remember yet. Raises what the device raises
    when it is too small.
    """
    device = parameters[0].device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        held = torch.empty(missing_state, dtype=torch.uint8, device=device)
        try:
            for parameter in parameters:
                parameter.grad = torch.zeros_like(parameter)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
                torch.cuda.reset_peak_memory_stats(device)
                before = allocated(device)
                backward()
                torch.cuda.synchronize(device)
                return torch.cuda.max_memory_allocated(device) - before
            if device.type != "cpu":
                backward()
                return None
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            with LiveBytes(known=[*weights, *parameters, *gradients, held]) as live:
                backward()
            return live.peak
        finally:
            for parameter in parameters:
                parameter.grad = None
            del held
