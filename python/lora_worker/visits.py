"""From visits to the tensors that a micro-batch is trained with.

Everything random about a visit comes from streams addressed by the visit: whether the image is mirrored, the draw
from the VAE's posterior, the noise, the timestep, the order of tags. So a visit is the same in whatever micro-batch
and in whichever run it happens. All of it is made on the CPU, which a GPU does not have to wait for.

Shape letters: B images, H and W the latents' height and width, N chunks of a caption, T tokens of a
chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from lora_worker import streams
from lora_worker.architecture import VAE_SCALE
from lora_worker.batches import BucketPlan, Entry, Plan, PlannedVisit, micro_batches
from lora_worker.captions import CaptionSettings, Moment, every_text, visited
from lora_worker.diffusion import add_noise, alphas_cumprod, posterior_sample, training_target
from lora_worker.models import size_embedding_inputs
from lora_worker.noise import PER_IMAGE, normal_from, offset_noise, pyramid_noise, uniform_from
from lora_worker.pinned import pinned
from lora_worker.ranks import ALONE, Ranks
from lora_worker.stored_latents import StoredLatents
from lora_worker.streams import Visit
from lora_worker.text import CHUNK, PAD_ONE, PAD_TWO, Tokens, token_ids, tokens_of
from lora_worker.train_request import Train, TrainImage

MOST_KEPT_BYTES = 2**30
"""Of latents in memory: 2000 pictures of 1024². What has no room is read again at each visit."""


@dataclass(frozen=True)
class MicroBatch:
    """`images` and `visits` say what each row is. Latents are F32 and noised, `sizes` are SDXL's six numbers, `weights`
    what the loss of each image is multiplied by, and `masks` of each place, where any image has a mask. `context` and
    `pooled` are what the text encoders make of the captions, where that is known (`TextCache`).

    A gradient is the sum of the losses over `among`: the images of the whole step, or as in sd-scripts those of the
    whole batch times the batches that a step should have.
    """

    images: tuple[TrainImage, ...]
    noisy_B4HW: Tensor
    target_B4HW: Tensor
    timesteps_B: Tensor
    sizes_B6: Tensor
    ids_one_BNT: Tensor
    ids_two_BNT: Tensor
    weights_B: Tensor
    masks_B1HW: Tensor | None = None
    visits: tuple[Visit, ...] = ()
    among: int = 1
    context_BTW: Tensor | None = None
    pooled_BP: Tensor | None = None

    def tokens(self) -> list[Tokens]:
        """Of each row."""
        return [Tokens(one_NT, two_NT) for one_NT, two_NT in zip(self.ids_one_BNT, self.ids_two_BNT, strict=True)]

    def parts(self, sizes: Sequence[int]) -> list[MicroBatch]:
        """The same rows in micro-batches of so many."""
        ends = [sum(sizes[: place + 1]) for place in range(len(sizes))]
        return [self._rows(slice(end - size, end)) for end, size in zip(ends, sizes, strict=True)]

    def to(self, device: torch.device) -> MicroBatch:
        """On the device, without waiting for it where the tensors are pinned."""
        # Elsewhere a copy in flight could outlive the tensor that it reads from.
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=device.type == "cuda"))

    def pinned(self) -> MicroBatch:
        """In memory that a GPU can copy from by itself."""
        return self._mapped(pinned)

    def _rows(self, rows: slice) -> MicroBatch:
        return replace(self._mapped(lambda tensor: tensor[rows]), images=self.images[rows], visits=self.visits[rows])

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> MicroBatch:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: change(value) for name, value in values.items() if isinstance(value, Tensor)})


class Visits:
    """The micro-batches of any step of a training: all, or where several processes train, one's share."""

    def __init__(
        self, work: Train, *, prediction: Literal["epsilon", "v"], zero_terminal_snr: bool, ranks: Ranks = ALONE
    ) -> None:
        self._ranks = ranks
        self._images = work.images
        self._settings = work.settings
        self._prediction = prediction
        self._alphas = alphas_cumprod(zero_terminal_snr=zero_terminal_snr)
        self._stored = StoredLatents(MOST_KEPT_BYTES)
        entries = [
            Entry(image.digest, image.index, image.repeats, image.bucket, image.regularization) for image in work.images
        ]
        self.plan: Plan | BucketPlan
        if work.settings.accumulation == "sd_scripts":
            self.plan = BucketPlan(
                entries,
                seed=work.settings.seed,
                batch_size=work.settings.batch_size,
                accumulation=work.settings.gradient_accumulation_steps,
            )
        else:
            self.plan = Plan(entries, seed=work.settings.seed, images_per_step=work.settings.images_per_step)

    def micro_batches(self, step: int) -> list[MicroBatch]:
        """Of the step with this 0-based index. Raises `bad-input` when latents are missing or damaged."""
        groups = self._groups(step)
        own = self._ranks.share(sum(map(len, groups)))
        made = []
        begin = 0
        for group in groups:
            rows = slice(max(own.start - begin, 0), max(own.stop - begin, 0))
            begin += len(group)
            if group[rows]:
                made.append(self._rows_of(group, rows, step))
        return made

    def images(self, step: int) -> tuple[TrainImage, ...]:
        """All images of the step, in the order of its micro-batches, whoever computes them."""
        return tuple(self._images[planned.place] for group in self._groups(step) for planned in group)

    def _groups(self, step: int) -> list[list[PlannedVisit]]:
        if isinstance(self.plan, BucketPlan):
            return self.plan.batches(step)
        visits = self.plan.visits(step)
        buckets = [self._images[planned.place].bucket for planned in visits]
        return micro_batches(visits, buckets, self._settings.batch_size)

    def _rows_of(self, group: Sequence[PlannedVisit], rows: slice, step: int) -> MicroBatch:
        of_step = self._settings.images_per_step
        by_batch = self._settings.accumulation == "sd_scripts"
        among = len(group) * self._settings.gradient_accumulation_steps if by_batch else of_step
        if self._divides_by_batch:
            # By the deviation of all of it.
            return replace(self._micro_batch(group, step)._rows(rows), among=among)
        return replace(self._micro_batch(group[rows], step), among=among)

    @property
    def _divides_by_batch(self) -> bool:
        return self._settings.noise is not None and self._settings.noise.std_axes == "batch"

    @property
    def chunks(self) -> int:
        """In which a caption is encoded."""
        return self._settings.max_token_length // CHUNK

    def texts(self, step: int) -> list[Tokens]:
        """Of every visit of the step with this 0-based index."""
        batches = self.plan.batches(step) if isinstance(self.plan, BucketPlan) else [self.plan.visits(step)]
        captions = [self._caption(planned, self._images[planned.place], step) for batch in batches for planned in batch]
        return tokens_of(sorted(set(captions)), chunks=self.chunks)

    def every_text(self) -> list[Tokens] | None:
        """Of all steps there could be, or None where captions change from visit to visit."""
        texts: set[str] = set()
        for image in self._images:
            made = every_text(image.caption, self._captions_of(image))
            if made is None:
                return None
            texts |= made
        return tokens_of(sorted(texts), chunks=self.chunks)

    def _micro_batch(self, visits: Sequence[PlannedVisit], step: int) -> MicroBatch:
        images = tuple(self._images[planned.place] for planned in visits)
        flipped = [self._is_flipped(planned) for planned in visits]
        latents = torch.stack([self._latents(*each) for each in zip(visits, images, flipped, strict=True)])
        noise = torch.stack([self._noise(*each) for each in zip(visits, latents, strict=True)])
        if self._divides_by_batch:
            noise = noise / noise.std()
        timesteps = torch.tensor([self._timestep(planned) for planned in visits])
        sizes = [self._sizes(*each) for each in zip(images, flipped, strict=True)]
        captions = [self._caption(planned, image, step) for planned, image in zip(visits, images, strict=True)]
        return MicroBatch(
            images=images,
            visits=tuple(planned.visit for planned in visits),
            noisy_B4HW=add_noise(latents, self._perturbed(visits, noise), timesteps, self._alphas),
            target_B4HW=training_target(self._prediction, latents, noise, timesteps, self._alphas),
            timesteps_B=timesteps,
            sizes_B6=torch.tensor(sizes, dtype=torch.float32),
            ids_one_BNT=token_ids(captions, PAD_ONE, chunks=self.chunks),
            ids_two_BNT=token_ids(captions, PAD_TWO, chunks=self.chunks),
            weights_B=torch.tensor([self._weight(image) for image in images], dtype=torch.float32),
            masks_B1HW=self._masks(images, flipped),
        )

    def _stream(self, planned: PlannedVisit, purpose: str) -> torch.Generator:
        return streams.visit_stream(self._settings.seed, planned.visit, purpose)

    def _is_flipped(self, planned: PlannedVisit) -> bool:
        has_mirrored = self._images[planned.place].latents_flipped is not None
        return has_mirrored and streams.flips(self._stream(planned, "flip"))

    def _latents(self, planned: PlannedVisit, image: TrainImage, flipped: bool) -> Tensor:
        """A draw from the posterior, scaled, [4, H, W]."""
        wanted = (4, image.bucket[1] // 8, image.bucket[0] // 8)
        mean, logvar = self._stored.tensors(_latents_path(image, flipped), {"mean": wanted, "logvar": wanted})
        noise = torch.randn(wanted, generator=self._latent_stream(planned, image, flipped))
        return posterior_sample(mean, logvar, noise) * VAE_SCALE

    def _latent_stream(self, planned: PlannedVisit, image: TrainImage, flipped: bool) -> torch.Generator:
        if self._settings.latents == "fresh":
            return self._stream(planned, "latent")
        # The same at every visit of the image, whichever epoch it is.
        once = replace(planned, visit=Visit(0, image.digest, image.index, 0))
        return self._stream(once, "frozen mirrored latent" if flipped else "frozen latent")

    def _masks(self, images: Sequence[TrainImage], flipped: Sequence[bool]) -> Tensor | None:
        """What each place counts, [B, 1, H, W]: all of an image that has no mask, beside one that has."""
        if all(image.mask is None for image in images):
            return None
        return torch.stack([self._mask(*each) for each in zip(images, flipped, strict=True)])

    def _mask(self, image: TrainImage, flipped: bool) -> Tensor:
        shape = (image.bucket[1] // 8, image.bucket[0] // 8)
        if image.mask is None:
            return torch.ones(1, *shape)
        [mask_HW] = self._stored.tensors(_latents_path(image, flipped), {"mask": shape})
        return self._settings.masked_loss.weights(mask_HW).unsqueeze(0)

    def _noise(self, planned: PlannedVisit, latents: Tensor) -> Tensor:
        """What the UNet learns to tell from these latents [4, H, W]."""
        noise = torch.randn(tuple(latents.shape), generator=self._stream(planned, "noise"))
        settings = self._settings.noise_settings
        if settings.noise_offset:
            generator = self._stream(planned, "noise offset")
            offset = settings.noise_offset
            if settings.noise_offset_random_strength:
                offset *= uniform_from(generator)()
            scale = settings.adaptive_noise_scale
            noise = offset_noise(noise, latents, offset=offset, adaptive_scale=scale, normal=normal_from(generator))
        multires = self._settings.noise
        if multires is None:
            return noise
        generator = self._stream(planned, "pyramid")
        return pyramid_noise(
            noise.unsqueeze(0),
            iterations=multires.iterations,
            discount=multires.discount,
            uniform=uniform_from(generator),
            normal=normal_from(generator),
            # The whole batch is divided when it is together.
            std_axes=PER_IMAGE if multires.std_axes == "image" else None,
        ).squeeze(0)

    def _perturbed(self, visits: Sequence[PlannedVisit], noise_B4HW: Tensor) -> Tensor:
        """The noise that the latents are mixed with, which with `ip_noise_gamma` is a little off the target."""
        settings = self._settings.noise_settings
        if not settings.ip_noise_gamma:
            return noise_B4HW
        perturbed = []
        for planned, noise in zip(visits, noise_B4HW, strict=True):
            generator = self._stream(planned, "input perturbation")
            gamma = settings.ip_noise_gamma
            if settings.ip_noise_gamma_random_strength:
                gamma *= uniform_from(generator)()
            perturbed.append(noise + gamma * normal_from(generator)(noise.shape))
        return torch.stack(perturbed)

    def _timestep(self, planned: PlannedVisit) -> int:
        first, end = self._settings.noise_settings.min_timestep, self._settings.noise_settings.max_timestep
        return first + streams.uniform_integer(self._stream(planned, "timestep"), end - first)

    def _caption(self, planned: PlannedVisit, image: TrainImage, step: int) -> str:
        moment = Moment(epoch=planned.visit.epoch, step=step, steps=self._settings.steps)
        return visited(image.caption, self._captions_of(image), moment, partial(self._stream, planned))

    def _captions_of(self, image: TrainImage) -> CaptionSettings:
        regularization = self._settings.regularization
        return regularization.captions if image.regularization and regularization else self._settings.captions

    def _weight(self, image: TrainImage) -> float:
        regularization = self._settings.regularization
        return regularization.prior_loss_weight if image.regularization and regularization else 1.0

    def _sizes(self, image: TrainImage, flipped: bool) -> tuple[int, int, int, int, int, int]:
        if self._settings.crop_conditioning == "sd_scripts":
            return sizes_of_sd_scripts(image, flipped)
        return sizes(image, flipped)


def _latents_path(image: TrainImage, flipped: bool) -> str:
    return image.latents_flipped if flipped and image.latents_flipped is not None else image.latents


def sizes(image: TrainImage, flipped: bool) -> tuple[int, int, int, int, int, int]:
    """SDXL's size conditioning. In a mirrored picture, what was cut off on the right is now on the left."""
    left, top = image.crop
    if flipped:
        left = image.resized[0] - image.bucket[0] - left
    return size_embedding_inputs(image.original, (left, top), image.bucket)


def sizes_of_sd_scripts(image: TrainImage, flipped: bool) -> tuple[int, int, int, int, int, int]:
    """The same as sd-scripts has it: the crop of a picture that fits into the bucket, where the real one covers it.

    So what is not 0 lies on the other axis, in pixels of the bucket. The arithmetic is that of `get_crop_ltrb` in
    sd-scripts' library/train_util.py, down to how floats are rounded: where the ratios are nearly equal it may say -1.
    """
    (width, height), (image_width, image_height) = image.bucket, image.original
    ratio = image_width / image_height
    if width / height > ratio:
        fitted_width, fitted_height = height * ratio, float(height)
    else:
        fitted_width, fitted_height = float(width), width / ratio
    left, top = (width - fitted_width) // 2, (height - fitted_height) // 2
    if flipped:
        left = width - (left + fitted_width)
    return size_embedding_inputs(image.original, (int(left), int(top)), image.bucket)
