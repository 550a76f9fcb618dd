"""LoRA modules as they lie in files: plain ones, convolutions, those with a Tucker core, and the LoRA part of DoRA.

Shape letters: N modules of one shape, O out features, I in features times kernel area, R rank, K places of a kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from lora_worker.directions import Directions, decompose_pairs
from lora_worker.errors import WorkerError, non_finite
from lora_worker.lora_modules import ModuleTensors


class LowRank:
    """One module, its shapes checked. Raises `bad-input` at once where they do not fit together."""

    def __init__(self, module: ModuleTensors) -> None:
        up, down = module.shapes["lora_up.weight"], module.shapes["lora_down.weight"]
        mid = module.shapes.get("lora_mid.weight")
        fits = len(up) >= 2 and len(down) >= 2 and up[1] == down[0] and prod(up[2:]) == 1 and prod(up) * prod(down) > 0
        if mid is not None:
            fits = fits and len(mid) == 4 and mid[:2] == (down[0], down[0]) and prod(mid) > 0 and prod(down[2:]) == 1
        if not fits:
            raise module.misfit()
        self.module = module
        self.rank = down[0]
        alpha = module.alpha()
        self.alpha = float(self.rank) if alpha is None else alpha
        self.up_shape = up
        self.down_shape = down if mid is None else (*down[:2], *mid[2:])
        """What a module without a core would store: that is folded into `down`."""

    @property
    def flat_shape(self) -> tuple[int, int]:
        """O and I."""
        return self.up_shape[0], prod(self.down_shape[1:])

    def up(self) -> Tensor:
        return self.module.tensor("lora_up.weight").flatten(1)

    def down(self) -> Tensor:
        """With the core folded in: down'[r, i, k] = Σ mid[r, s, k] down[s, i]."""
        down_RI = self.module.tensor("lora_down.weight").flatten(1)
        if "lora_mid.weight" not in self.module:
            return down_RI
        mid_RRK = self.module.tensor("lora_mid.weight").float().flatten(2)
        return torch.einsum("rsk,si->rik", mid_RRK, down_RI.float()).flatten(1)


def decompose_all(modules: Sequence[LowRank], device: torch.device) -> list[Directions]:
    """The directions of modules of one `flat_shape` and one rank."""
    # Each number is widened only once it lies where it is needed.
    up_NOR = torch.stack([module.up() for module in modules]).to(device).float()
    down_NRI = torch.stack([module.down() for module in modules]).to(device).float()
    try:
        found = decompose_pairs(up_NOR, down_NRI)
    except FloatingPointError:
        raise _not_finite(modules) from None
    return [each.times(module.alpha / module.rank) for module, each in zip(modules, found, strict=True)]


def _not_finite(modules: Sequence[LowRank]) -> WorkerError:
    """Names the tensor. Only now is every number looked at."""
    for module in modules:
        for part in ("lora_up.weight", "lora_down.weight", "lora_mid.weight"):
            if part in module.module and not torch.isfinite(module.module.tensor(part).float()).all():
                return module.module.not_finite(part)
    names = ", ".join(f'"{module.module.name}"' for module in modules)
    return non_finite(f"One of {names} has numbers whose product is too large for single precision.")
