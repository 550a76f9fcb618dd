"""The toy's UNet and text encoders, trained together on the latents and captions of scenes.

As SDXL is trained: 1000 timesteps, epsilon prediction, size conditioning, some captions left out for the sake of
guidance. Errors are weighted by min-SNR (Hang et al. 2023, https://arxiv.org/abs/2303.09556).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random

import torch
from networks import Networks, States
from scenes import SIZES, draw_scene
from steps import PEAK_RATE, Clock, Descent, mixed_precision
from torch import Tensor, nn

from lora_worker.architecture import VAE_SCALE
from lora_worker.diffusion import TIMESTEPS, add_noise, alphas_cumprod, posterior_sample
from lora_worker.images import to_tensor
from lora_worker.models import size_embedding_inputs
from lora_worker.toy.pictures import Size

_BATCH = 32
_EMPTY_CAPTIONS = 0.1
_SNR_GAMMA = 5.0
_AVERAGED_STEPS = 500
_DRAWN_AT_ONCE = 20


@dataclass
class Encoded:
    """Scenes of one size: their captions, and mean and log-variance of their latents [B, 8, H, W]."""

    captions: list[str] = field(default_factory=list)
    moments: list[Tensor] = field(default_factory=list)


@torch.no_grad()
def encode_scenes(networks: Networks, count: int) -> Mapping[Size, Encoded]:
    random, clock = Random(2), Clock("scenes", count)
    encoded: dict[Size, Encoded] = {size: Encoded() for size in SIZES}
    for start in range(0, count, _DRAWN_AT_ONCE):
        size = SIZES[start // _DRAWN_AT_ONCE % len(SIZES)]
        scenes = [draw_scene(random, size) for _ in range(_DRAWN_AT_ONCE)]
        with mixed_precision():
            posterior = networks.vae.encode(torch.stack([to_tensor(scene.image) for scene in scenes])).latent_dist
        encoded[size].captions += [scene.caption for scene in scenes]
        encoded[size].moments.append(torch.cat([posterior.mean, posterior.logvar], dim=1).float())
        clock.tell(start + _DRAWN_AT_ONCE, "encoded")
    return encoded


@dataclass(frozen=True)
class UNetRound:
    steps: int
    seed: int
    peak: float = PEAK_RATE
    falls_over: int = 0
    weight_of_means: float = 0.0
    """Of the error of each channel's mean. The last norm takes the means away, so that they are learned last."""


def learn_unet(
    networks: Networks,
    encoded: Mapping[Size, Encoded],
    how: UNetRound,
    *,
    every: int,
    keep: Callable[[States], None],
) -> None:
    """Calls `keep` after every so many steps and at the end, with state dicts that are averages over newer steps."""
    trained = nn.ModuleDict({name: module.train() for name, module in networks.modules().items() if name != "vae"})
    average = torch.optim.swa_utils.AveragedModel(trained, multi_avg_fn=_follow)
    descent = Descent("UNet", trained, how.steps, peak=how.peak, falls_over=how.falls_over, weight_decay=0.01)
    batches = _Batches(encoded, how.seed)
    for index in range(how.steps):
        loss, of_means = _losses(networks, batches.next())
        descent.step(index, loss + how.weight_of_means * of_means, f", of means {of_means.item():.5f}")
        average.update_parameters(trained)
        if (index + 1) % every == 0 or index + 1 == how.steps:
            keep({name: module.state_dict() for name, module in average.module.items()})


def _follow(averages: list[Tensor], newest: list[Tensor], count: Tensor) -> None:
    decay = min(1 - 1 / _AVERAGED_STEPS, (1 + count.item()) / (10 + count.item()))
    torch._foreach_lerp_(averages, newest, 1 - decay)


@dataclass(frozen=True)
class _Batch:
    size: Size
    captions: list[str]
    latents_B4HW: Tensor
    noise_B4HW: Tensor
    timesteps_B: Tensor


class _Batches:
    def __init__(self, encoded: Mapping[Size, Encoded], seed: int) -> None:
        # As often as they are drawn; few scenes have not all sizes.
        self._sizes = [size for size in SIZES if encoded[size].captions]
        self._captions = {size: encoded[size].captions for size in self._sizes}
        self._moments = {size: torch.cat(encoded[size].moments) for size in self._sizes}
        self._random, self._generator = Random(seed), torch.Generator().manual_seed(seed)

    def next(self) -> _Batch:
        size = self._random.choice(self._sizes)
        chosen = torch.randint(len(self._captions[size]), (_BATCH,), generator=self._generator)
        mean, logvar = self._moments[size][chosen].chunk(2, dim=1)
        captions = [self._captions[size][index] for index in chosen.tolist()]
        return _Batch(
            size,
            ["" if self._random.random() < _EMPTY_CAPTIONS else caption for caption in captions],
            VAE_SCALE * posterior_sample(mean, logvar, torch.randn(mean.shape, generator=self._generator)),
            torch.randn(mean.shape, generator=self._generator),
            torch.randint(TIMESTEPS, (_BATCH,), generator=self._generator),
        )


_ALPHAS = alphas_cumprod()


def _losses(networks: Networks, batch: _Batch) -> tuple[Tensor, Tensor]:
    """Squared errors: the weighted mean over all numbers, and the mean over the channels' means."""
    noisy = add_noise(batch.latents_B4HW, batch.noise_B4HW, batch.timesteps_B, _ALPHAS)
    sizes = torch.tensor([size_embedding_inputs(batch.size, (0, 0), batch.size)] * _BATCH)
    with mixed_precision():
        context, pooled = networks.models.text.encode(batch.captions)
        output = networks.models.predict(noisy, batch.timesteps_B, context, pooled, sizes)
    difference_B4HW = output.float() - batch.noise_B4HW
    errors_B = difference_B4HW.square().mean((1, 2, 3))
    ratio_B = _ALPHAS[batch.timesteps_B] / (1 - _ALPHAS[batch.timesteps_B])
    return (errors_B * (_SNR_GAMMA / ratio_B).clamp(max=1)).mean(), difference_B4HW.mean((2, 3)).square().mean()
