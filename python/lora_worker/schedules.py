"""How learning rates change over a training: factors of the base rate, by optimizer step."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Cosine:
    """`num_cycles` waves over the whole training: 0.5 ends at 0, the guide's 0.375 stops earlier, at 0.146."""

    num_cycles: float


@dataclass(frozen=True)
class Constant:
    """The base rate throughout."""


Schedule = Cosine | Constant


def rate_factor(schedule: Schedule, step: int, total: int) -> float:
    """The factor for the step with this 0-based index, of `total` steps."""
    if isinstance(schedule, Constant):
        return 1.0
    progress = step / max(1, total)
    return max(0.0, 0.5 * (1.0 + math.cos(2.0 * math.pi * schedule.num_cycles * progress)))
