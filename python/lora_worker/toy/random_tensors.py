"""The random tensors of a made-up checkpoint, spread so that activations neither vanish nor explode.

Each has a stream of its own, seeded by its name, so a change of one shape leaves the other tensors alone.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from lora_worker.architecture import Shape


@dataclass(frozen=True)
class _Spread:
    """How wide the values of the tensors spread whose name ends so."""

    ending: str
    deviation: float | None = None
    gain: float = 1.0


# The first that matches holds. A gain is relative to the spread that keeps the variance from inputs to outputs.
_SPREADS = (
    _Spread(r"token_embedding\.weight", deviation=0.5),
    _Spread(r"(position_embedding\.weight|positional_embedding)", deviation=0.2),
    _Spread(r"(out_layers\.3|conv2|to_out\.0|ff\.net\.2|proj_out|out_proj|fc2|c_proj)\.weight", gain=0.3),
    _Spread(r"model\.out\.2\.weight", gain=0.3),
    _Spread(r"decoder\.conv_out\.weight", gain=0.5),
    _Spread(r"", gain=1.0),
)


def random_tensor(name: str, shape: Shape, device: torch.device | str = "cpu") -> Tensor:
    """F32. The same on every CPU, and other numbers that spread alike elsewhere."""
    if name.endswith("bias"):
        return torch.zeros(shape, device=device)
    if len(shape) == 1:  # norms
        return torch.ones(shape, device=device)
    spread = next(spread for spread in _SPREADS if re.search(f"{spread.ending}$", name))
    deviation = spread.gain / prod(shape[1:]) ** 0.5 if spread.deviation is None else spread.deviation
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "little")
    # Nothing is drawn where there is nothing to hold it.
    generator = None if torch.device(device).type == "meta" else torch.Generator(device).manual_seed(seed)
    return torch.randn(shape, generator=generator, device=device) * deviation
