"""What both trainings of the toy base share: the optimizer's step, its rate, and what one reads meanwhile."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor, nn

PEAK_RATE = 1e-3


class Descent:
    """AdamW whose rate rises at first and then falls to nearly nothing along half a cosine."""

    def __init__(
        self,
        what: str,
        module: nn.Module,
        steps: int,
        *,
        peak: float = PEAK_RATE,
        falls_over: int = 0,
        weight_decay: float = 0.0,
    ) -> None:
        """`falls_over`: after so many steps the rate would have fallen, where that is more than `steps`."""
        self._module = module
        self._peak = peak
        self._falls_over = max(steps, falls_over)
        self._optimizer = torch.optim.AdamW(module.parameters(), betas=(0.9, 0.99), weight_decay=weight_decay)
        self._clock = Clock(what, steps)

    def step(self, index: int, loss: Tensor, told: str) -> None:
        """`told` is printed now and then, behind the loss."""
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._module.parameters(), 1.0)
        for group in self._optimizer.param_groups:
            group["lr"] = self._peak * self._share_of_rate(index)
        self._optimizer.step()
        self._clock.tell(index + 1, f"loss {loss.item():.4f}{told}")

    def _share_of_rate(self, index: int) -> float:
        rising = min(200, self._falls_over // 10 + 1)
        if index < rising:
            return (index + 1) / rising
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (index - rising) / max(1, self._falls_over - rising)))


class Clock:
    """Prints a line every ten seconds, and at the end."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total = what, total
        self._start = self._told = time.monotonic()

    def tell(self, done: int, how: str) -> None:
        now = time.monotonic()
        if now - self._told < 10 and done < self._total:
            return
        self._told = now
        each = (now - self._start) / done
        left = each * (self._total - done) / 60
        print(f"{self._what}: {done} of {self._total}, {how}, {each:.2f} s each, {left:.0f} min left", flush=True)


def mixed_precision() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)
