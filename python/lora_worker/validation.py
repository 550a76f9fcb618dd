"""How well a training predicts images that it does not learn from.

Each held-out image is noised at the same few timesteps with the same noise every time, so that two measurements differ
by the LoRA alone: single losses of a training vary by a factor of several with their timestep. Captions are whole and
in order, nothing is mirrored, nothing is dropped out, and the loss is the plain mean squared error whatever the
training minimizes. Where images have masks, it is the mean over what they leave, so that each image counts the same.
The numbers have addresses of their own, without the training's seed, so that trainings with other
seeds can be compared as well. Measuring changes nothing in the training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Generator, Tensor

from lora_worker import streams
from lora_worker.batches import PlannedVisit, micro_batches
from lora_worker.loss import masked_mean
from lora_worker.masks import MaskedLoss
from lora_worker.models import Models
from lora_worker.streams import Visit
from lora_worker.text import Tokens, tokens_of
from lora_worker.text_cache import TextCache
from lora_worker.train_request import HeldOut, Train
from lora_worker.training import image_losses
from lora_worker.visits import MicroBatch, Visits


class HeldOutVisits(Visits):
    """Every held-out image at every timestep, which stands in the place of the number of its visit."""

    def __init__(
        self, work: Train, held_out: HeldOut, *, prediction: Literal["epsilon", "v"], zero_terminal_snr: bool
    ) -> None:
        captions = replace(
            work.settings.captions,
            shuffle_caption=False,
            caption_dropout_rate=0.0,
            caption_dropout_every_n_epochs=0,
            caption_tag_dropout_rate=0.0,
            token_warmup_step=0.0,
        )
        noise = work.settings.noise and replace(work.settings.noise, std_axes="image")
        # Measured alike whatever reproduces sd-scripts in training.
        alike = {"crop_conditioning": "real", "latents": "fresh", "masked_loss": MaskedLoss(normalize=True)}
        settings = replace(work.settings, captions=captions, noise=noise, **alike)
        quiet = replace(work, images=held_out.images, settings=settings)
        super().__init__(quiet, prediction=prediction, zero_terminal_snr=zero_terminal_snr)
        self._timesteps = held_out.timesteps

    def all(self) -> Iterator[MicroBatch]:
        places = sorted(range(len(self._images)), key=lambda at: (self._images[at].digest, self._images[at].index))
        buckets = [self._images[place].bucket for place in places]
        for timestep in self._timesteps:
            visits = [PlannedVisit(place, self._visit(place, timestep)) for place in places]
            for group in micro_batches(visits, buckets, self._settings.batch_size):
                yield self._micro_batch(group, 0)

    def every_text(self) -> list[Tokens]:
        """Of all that is measured: there is no more."""
        places = range(len(self._images))
        captions = {
            self._caption(PlannedVisit(place, self._visit(place, timestep)), self._images[place], 0)
            for place in places
            for timestep in self._timesteps
        }
        return tokens_of(sorted(captions), chunks=self.chunks)

    def _visit(self, place: int, timestep: int) -> Visit:
        image = self._images[place]
        return Visit(0, image.digest, image.index, timestep)

    def _stream(self, planned: PlannedVisit, purpose: str) -> Generator:
        return streams.held_out_stream(planned.visit, purpose)

    def _is_flipped(self, planned: PlannedVisit) -> bool:
        return False

    def _perturbed(self, visits: Sequence[PlannedVisit], noise_B4HW: Tensor) -> Tensor:
        return noise_B4HW

    def _timestep(self, planned: PlannedVisit) -> int:
        return planned.visit.repeat


def held_out_loss(
    models: Models, visits: HeldOutVisits, check: Callable[[], None], texts: TextCache | None = None
) -> float:
    """The mean over all images and timesteps. `check` is called before each forward pass and may raise. `texts` has
    `every_text` of the visits, if it is there."""
    each: list[Tensor] = []
    device, dtype = models.device, models.dtype
    with torch.no_grad():
        for batch in visits.all():
            check()
            batch = batch if texts is None else texts.with_text(batch)
            losses = image_losses(models, batch.to(device), _squared_error, dtype=dtype, trains_text=False)
            each.append(losses.double())
        return torch.cat(each).mean().item()


def best_step(losses: Mapping[int, float]) -> int | None:
    """The step with the lowest loss, the first of several. None where nothing was measured."""
    finite = {step: loss for step, loss in losses.items() if math.isfinite(loss)}
    return min(finite, key=lambda step: (finite[step], step), default=None)


def _squared_error(
    output_B4HW: Tensor, target_B4HW: Tensor, timesteps_B: Tensor, masks_B1HW: Tensor | None = None
) -> Tensor:
    return masked_mean((output_B4HW.float() - target_B4HW).square(), masks_B1HW)
