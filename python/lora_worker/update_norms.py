"""How far a step moves what is trained: for each component the norm of what its parameters change by, all together.

It is what the optimizer really did, after clipping, decay and `scale_weight_norms`, whatever optimizer it is, while the
norm of the gradient is what it was given. It is a norm of the LoRA's numbers, not of the ΔW that they multiply to.

To have it, the parameters are copied before the optimizer's step and the copy is gone behind it: four bytes for each
trained number (480 MB for the guide's network), at a moment when no activations are kept, which are several times
that. Everything stays on the device, in a few launches for all parameters together, and nothing waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class UpdateNorms:
    """Use `before` and `after` around what changes the parameters."""

    def __init__(self, parameters: Mapping[str, Sequence[nn.Parameter]]) -> None:
        """By component."""
        self._parameters = {name: [each.data for each in group] for name, group in parameters.items()}
        self._before: dict[str, list[Tensor]] = {}

    @property
    def components(self) -> tuple[str, ...]:
        """What each number of `after` belongs to."""
        return tuple(self._parameters)

    def before(self) -> None:
        # The copy: a product with 1 is exact.
        self._before = {name: list(torch._foreach_mul(group, 1)) for name, group in self._parameters.items()}

    def after(self) -> Tensor:
        """F32 [components]."""
        norms = []
        for name, before in self._before.items():
            torch._foreach_sub_(before, self._parameters[name])
            norms.append(nn.utils.get_total_norm(before).float())
        self._before = {}
        return torch.stack(norms)
