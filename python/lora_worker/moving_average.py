"""A moving average of the parameters of a network, kept while they are trained.

After each optimizer step e ← d·e + (1 − d)·θ. A constant d near 1 would hardly forget how a short training began, so
step i (from 0) has d = min(decay, (1 + i) / (10 + i)), and the first step's parameters are the first average: the rule
of diffusers' EMAModel (training_utils.py). F32 on the parameters' device, all tensors at once, and nothing waits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_PREFIX = "ema/"


class MovingAverage:
    """`parameters` by their names in files. What it keeps has their shapes."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self._decay = decay
        self._names = list(parameters)
        self._parameters = list(parameters.values())
        self._averages = [parameter.detach().clone() for parameter in self._parameters]

    @torch.no_grad()
    def update(self, index: int) -> None:
        """After the step with this 0-based index."""
        torch._foreach_lerp_(self._averages, [each.data for each in self._parameters], 1 - decay_at(index, self._decay))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block the parameters have the values of the average."""
        trained = [parameter.data for parameter in self._parameters]
        try:
            for parameter, average in zip(self._parameters, self._averages, strict=True):
                parameter.data = average
            yield
        finally:
            for parameter, value in zip(self._parameters, trained, strict=True):
                parameter.data = value

    def state(self) -> dict[str, Tensor]:
        """For a state of the training. The tensors are the live ones."""
        return {f"{_PREFIX}{name}": average for name, average in zip(self._names, self._averages, strict=True)}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Goes on from what `state` gave, bit for bit."""
        for name, average in zip(self._names, self._averages, strict=True):
            average.copy_(tensors[f"{_PREFIX}{name}"])


def decay_at(index: int, decay: float) -> float:
    """Of the step with this 0-based index."""
    return 0.0 if index == 0 else min(decay, (1 + index) / (10 + index))
