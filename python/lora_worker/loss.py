"""How far predictions are from their targets: one number per image, in the order in which sd-scripts works it out.

    element loss → mean over the image

Formulas, with d the difference and c a threshold that may depend on the timestep:

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


class ImageLoss:
    """The loss of a training, with its tables on the device. Made once."""

    def __init__(self, element: ElementLoss, *, zero_terminal_snr: bool, device: torch.device) -> None:
        self._kind = element.kind
        self._thresholds_T: Tensor | None = None
        if element.kind in ("huber", "smooth_l1"):
            self._thresholds_T = thresholds(element, zero_terminal_snr=zero_terminal_snr).to(device)

    def __call__(self, output_B4HW: Tensor, target_B4HW: Tensor, timesteps_B: Tensor) -> Tensor:
        """Of each image, F32 [B]."""
        return self._of_elements(output_B4HW.float() - target_B4HW, timesteps_B).mean(dim=(1, 2, 3))

    def _of_elements(self, difference_B4HW: Tensor, timesteps_B: Tensor) -> Tensor:
        if self._thresholds_T is None:
            return difference_B4HW.abs() if self._kind == "l1" else difference_B4HW.square()
        c = self._thresholds_T[timesteps_B].reshape(-1, 1, 1, 1)
        # √(d² + c²) − c, without taking nearly equal numbers from each other.
        square = difference_B4HW.square()
        excess = square / ((square + c.square()).sqrt() + c)
        return 2 * c * excess if self._kind == "huber" else 2 * excess


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
