"""How far predictions are from their targets: one number per image, in the order in which sd-scripts works it out.

    element loss → times the mask → mean over the image → weight of the timestep

Formulas of the element loss, with d the difference and c a threshold that may depend on the timestep:

    l2          d²
    l1          |d|
    huber       2 c (√(d² + c²) − c)        near 0 like d², far out like 2 c |d|
    smooth_l1   2 (√(d² + c²) − c)          the same over c: far out like 2 |d|

Shape letters: B images, H and W the latents' height and width, T the 1000 timesteps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lora_worker.diffusion import TIMESTEPS, alphas_cumprod
from lora_worker.errors import bad_input
from lora_worker.protocol import Fields, ProtocolError


@dataclass(frozen=True)
class ElementLoss:
    """What a difference counts. `c`, `schedule` and `scale` are read by huber and smooth_l1 alone."""

    kind: Literal["l2", "l1", "huber", "smooth_l1"] = "l2"
    c: float = 0.1
    schedule: Literal["snr", "exponential", "constant"] = "snr"
    scale: float = 1.0

    @staticmethod
    def parse(loss: Fields) -> ElementLoss:
        """Raises ProtocolError."""
        kind = loss.one_of("kind", ("l2", "l1", "huber", "smooth_l1"))
        if kind in ("l2", "l1"):
            return ElementLoss(kind)
        c, scale = loss.number("c"), loss.number("scale")
        if min(c, scale) <= 0:
            raise ProtocolError(f'"{loss.where}.c" and "scale" must be above 0, and are {c} and {scale}')
        return ElementLoss(kind, c, loss.one_of("schedule", ("snr", "exponential", "constant")), scale)


@dataclass(frozen=True)
class LossWeights:
    """How timesteps count: all alike, unless something is set."""

    min_snr_gamma: float | None = None
    scale_v_pred_loss_like_noise_pred: bool = False
    v_pred_like_loss: float = 0.0
    debiased_estimation: bool = False

    @staticmethod
    def parse(settings: Fields) -> LossWeights:
        """Raises ProtocolError."""
        gamma = settings.number_if_there("min_snr_gamma")
        like = settings.number("v_pred_like_loss")
        if (gamma is not None and gamma <= 0) or like < 0:
            raise ProtocolError(
                f'"min_snr_gamma" must be above 0, "v_pred_like_loss" not below, and are {gamma}, {like}'
            )
        return LossWeights(
            min_snr_gamma=gamma,
            scale_v_pred_loss_like_noise_pred=settings.flag("scale_v_pred_loss_like_noise_pred"),
            v_pred_like_loss=like,
            debiased_estimation=settings.flag("debiased_estimation"),
        )


class ImageLoss:
    """The loss of a training, with its tables on the device. Made once."""

    def __init__(
        self,
        element: ElementLoss,
        weights: LossWeights,
        *,
        prediction: Literal["epsilon", "v"],
        zero_terminal_snr: bool,
        device: torch.device,
    ) -> None:
        """Raises `bad-input` for weights that are not for this kind of prediction."""
        self._kind = element.kind
        weights_T = timestep_weights(weights, prediction)
        self._weights_T = None if weights_T is None else weights_T.to(device)
        self._thresholds_T: Tensor | None = None
        if element.kind in ("huber", "smooth_l1"):
            self._thresholds_T = thresholds(element, zero_terminal_snr=zero_terminal_snr).to(device)

    def __call__(
        self, output_B4HW: Tensor, target_B4HW: Tensor, timesteps_B: Tensor, masks_B1HW: Tensor | None = None
    ) -> Tensor:
        """Of each image, F32 [B]. `masks_B1HW` say how much each place counts; without them, all count alike."""
        losses_B4HW = self._of_elements(output_B4HW.float() - target_B4HW, timesteps_B)
        losses_B = masked_mean(losses_B4HW, masks_B1HW)
        return losses_B if self._weights_T is None else losses_B * self._weights_T[timesteps_B]

    def _of_elements(self, difference_B4HW: Tensor, timesteps_B: Tensor) -> Tensor:
        if self._thresholds_T is None:
            return difference_B4HW.abs() if self._kind == "l1" else difference_B4HW.square()
        c = self._thresholds_T[timesteps_B].reshape(-1, 1, 1, 1)
        # √(d² + c²) − c, without taking nearly equal numbers from each other.
        square = difference_B4HW.square()
        excess = square / ((square + c.square()).sqrt() + c)
        return 2 * c * excess if self._kind == "huber" else 2 * excess


def masked_mean(losses_B4HW: Tensor, masks_B1HW: Tensor | None) -> Tensor:
    """Over all elements of each image, [B], each times what its place counts. Not divided by what counts, as in
    sd-scripts: a mask of half of an image leaves half of its loss."""
    counted_B4HW = losses_B4HW if masks_B1HW is None else losses_B4HW * masks_B1HW
    return counted_B4HW.mean(dim=(1, 2, 3))


def thresholds(element: ElementLoss, *, zero_terminal_snr: bool) -> Tensor:
    """c of huber and smooth_l1 at each timestep, F32 [T].

    `snr` falls from nearly 1 without noise to `c` in pure noise, (1 − c) / (1 + σ)² + c, whatever `scale` is;
    `exponential` falls from `scale` to c · `scale`; `constant` is c · `scale`.
    """
    if element.schedule == "constant":
        return torch.full((TIMESTEPS,), element.c * element.scale)
    if element.schedule == "exponential":
        decay = -math.log(element.c) / TIMESTEPS
        return torch.exp(-decay * torch.arange(TIMESTEPS)) * element.scale
    alphas = alphas_cumprod(zero_terminal_snr=zero_terminal_snr)
    sigmas = ((1 - alphas) / alphas).sqrt()
    return (1 - element.c) / (1 + sigmas) ** 2 + element.c


# Where there is hardly any noise the ratio runs away.
_LARGEST_SNR = 1000.0


def timestep_weights(weights: LossWeights, prediction: Literal["epsilon", "v"]) -> Tensor | None:
    """What the loss of an image is multiplied by at each timestep, F32 [T]; None where it is left as it is.

    SNR = ᾱ / (1 − ᾱ) is that of the published schedule, also for models whose terminal SNR is zero. In this order:
    min-SNR (Hang et al., 2023) min(SNR, γ) / SNR, for v over SNR + 1; v scaled like noise s = SNR / (SNR + 1); more of
    a loss like that of v, 1 + k / s; debiased estimation (Yu et al., 2023) 1 / √SNR, for v 1 / (SNR + 1).
    Raises `bad-input`.
    """
    _refuse_misfits(weights, prediction)
    if weights == LossWeights():
        return None
    alphas = alphas_cumprod()
    snr = alphas / (1 - alphas)
    capped = snr.clamp(max=_LARGEST_SNR)
    like_noise = capped / (capped + 1)
    result = torch.ones(TIMESTEPS)
    if weights.min_snr_gamma is not None:
        result = result * snr.clamp(max=weights.min_snr_gamma) / (snr + 1 if prediction == "v" else snr)
    if weights.scale_v_pred_loss_like_noise_pred:
        result = result * like_noise
    if weights.v_pred_like_loss:
        result = result + result / like_noise * weights.v_pred_like_loss
    if weights.debiased_estimation:
        result = result / (capped + 1 if prediction == "v" else capped.sqrt())
    return result


def _refuse_misfits(weights: LossWeights, prediction: Literal["epsilon", "v"]) -> None:
    if weights.scale_v_pred_loss_like_noise_pred and prediction != "v":
        raise bad_input(
            '"scale_v_pred_loss_like_noise_pred" is for models that predict v, and this checkpoint predicts noise.',
            hint="Leave it out.",
        )
    if weights.v_pred_like_loss and prediction == "v":
        raise bad_input(
            '"v_pred_like_loss" is for models that predict noise, and this checkpoint predicts v.',
            hint="Leave it out.",
        )
