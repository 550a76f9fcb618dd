"""Keeps the change of each layer from growing past a length: sd-scripts' `scale_weight_norms`.

After each optimizer step both factors of a module are multiplied by √(limit / ‖ΔW‖_F) where ‖ΔW‖_F is above the limit
(`apply_max_norm_regularization` in sd-scripts' networks/lora.py). What was trained beside it, a Tucker core, stays.

Norms come from Gram matrices, ‖up · down‖² = Σ (upᵀup) ∘ (down downᵀ), which are as large as the rank, so ΔW is never
made. Everything stays on the device, and nothing waits for it.

Shape letters: O output features, I input features, P and R ranks, K kernel size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lora_worker.branches import Branch, Dense, LowRank
from lora_worker.families import LoKr
from lora_worker.network import Network


class WeightNorms:
    """Of a network that is `locon` or `lokr`; norms of layers that are trained as well are left alone."""

    def __init__(self, network: Network, limit: float) -> None:
        """`limit` is above 0."""
        self._limit = limit
        self._branches = [branch for branch in network.branches.values() if branch.target.kind != "norm"]
        pairs = [_two_factors(branch) for branch in self._branches]
        self._firsts = [first for first, _ in pairs]
        self._seconds = [second for _, second in pairs]

    @torch.no_grad()
    def shorten(self) -> Tensor:
        """How many modules were too long, and the mean and the largest norm after that: F32 [3]."""
        norms_N = torch.stack([norm_of(branch) for branch in self._branches])
        # As sd-scripts: no norm counts as less than half of the limit, so none is divided by zero.
        counted_N = norms_N.clamp_min(self._limit / 2)
        ratios_N = counted_N.clamp_max(self._limit) / counted_N
        roots = list(ratios_N.sqrt().unbind())
        torch._foreach_mul_([each.data for each in self._firsts], roots)
        torch._foreach_mul_([each.data for each in self._seconds], roots)
        after_N = norms_N * ratios_N
        return torch.stack([(ratios_N != 1).sum().to(after_N.dtype), after_N.mean(), after_N.max()])


def norm_of(branch: Branch) -> Tensor:
    """The Frobenius norm of ΔW, F32."""
    if isinstance(branch, LowRank):
        return abs(branch.strength) * _product_norm(branch.up.flatten(1), branch.down.flatten(1), branch.mid)
    change = branch.change() if isinstance(branch, Dense) else None
    # ‖A ⊗ B‖ = ‖A‖ · ‖B‖
    assert isinstance(change, LoKr)
    return abs(change.scale) * change.first.norm() * change.second.norm()


def _product_norm(up_OP: Tensor, down_RI: Tensor, core_PRKK: Tensor | None) -> Tensor:
    out_PP, in_RR = up_OP.T @ up_OP, down_RI @ down_RI.T
    if core_PRKK is None:
        squared = (out_PP * in_RR).sum()
    else:
        squared = (torch.einsum("pq,qskl,sr->prkl", out_PP, core_PRKK, in_RR) * core_PRKK).sum()
    # Rounding can leave a little below zero of what is nearly nothing.
    return squared.clamp_min(0).sqrt()


_FIRST = ("lora_up.weight", "lokr_w1", "lokr_w1_a")
_SECOND = ("lora_down.weight", "lokr_w2", "lokr_w2_a")


def _two_factors(branch: Branch) -> tuple[nn.Parameter, nn.Parameter]:
    first, second = (next(branch.parts[name] for name in names if name in branch.parts) for names in (_FIRST, _SECOND))
    return first, second
