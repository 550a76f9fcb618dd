"""What the families of adapters add to a weight: ΔW as a formula, and the same computed beside the layer.

A file may mix families, so all of this is about one module. Numbers are F32 whatever the file and the model have;
what is computed beside a layer is cast to the dtype of what flows there, so ΔW is never rounded to the weight's grid.

Shape letters: O output features, I input features, R rank, K kernel sizes; a weight is [O, I] or [O, I, K, K].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from lora_worker.fp8 import Fp8Layer, weight_of

Family = Literal["LoRA", "LoHa", "LoKr", "GLoRA", "full", "norm", "IA3", "OFT", "unknown"]
Layer = nn.Linear | nn.Conv2d
Scale = float | Tensor
"""A number. One that is learned is a tensor without axes."""
Parts = Mapping[str, Tensor]
"""Tensors of one module by their suffix: `lora_up.weight`, `hada_w1_a` …"""

_LORA = frozenset({"lora_down.weight", "lora_up.weight"})
_GLORA = frozenset({"a1.weight", "a2.weight", "b1.weight", "b2.weight"})
# Beside the tensors of any family that changes a layer.
_COMMON = frozenset({"alpha", "dora_scale", "diff_b"})


class Misfit(ValueError):
    """A tensor that does not fit its layer. The message goes behind "the module … of …"."""


class Change(ABC):
    """ΔW of one layer."""

    @abstractmethod
    def delta(self, base_OI: Tensor) -> Tensor:
        """ΔW in F32. `base_OI` is the layer's weight in F32, of which most families need only the shape."""

    def beside(self, layer: Layer, x: Tensor, weight: float) -> Tensor:
        """`weight` times what ΔW makes of what flows into the layer."""
        return through(layer, x, (self.delta(weight_of(layer).float()) * weight).to(x.dtype))


@dataclass(frozen=True)
class LowRank(Change):
    """LoRA, LoCon and Tucker: scale · up · down, with `mid` [R, R, K, K] between them where it is not None."""

    down: Tensor
    up: Tensor
    mid: Tensor | None
    scale: Scale

    def delta(self, base_OI: Tensor) -> Tensor:
        up_OR, down_RI = self.up.flatten(1), self.down.flatten(1)
        if self.mid is None:
            return (self.scale * (up_OR @ down_RI)).reshape(base_OI.shape)
        return self.scale * torch.einsum("or,rskl,si->oikl", up_OR, self.mid, down_RI)

    def beside(self, layer: Layer, x: Tensor, weight: float) -> Tensor:
        down = self.down.to(x.dtype)
        # The weight is scaled and not what flows: it is far smaller, and still F32 here.
        up = (self.up * (self.scale * weight)).to(x.dtype)
        if self.mid is None:
            return _pointwise(through(layer, x, down), up)
        return _pointwise(through(layer, _pointwise(x, down), self.mid.to(x.dtype)), up)


@dataclass(frozen=True)
class LoHa(Change):
    """scale · (first) ∘ (second), each a product of two, or with a core [R, R, K, K] where it has three."""

    first: tuple[Tensor, Tensor, Tensor | None]
    second: tuple[Tensor, Tensor, Tensor | None]
    scale: Scale

    def delta(self, base_OI: Tensor) -> Tensor:
        first_OI, second_OI = (_product(*factors).flatten(1) for factors in (self.first, self.second))
        return self.scale * (first_OI * second_OI).reshape(base_OI.shape)


@dataclass(frozen=True)
class LoKr(Change):
    """scale · first ⊗ second. `first` is [A, C] and `second` [B, D · K], with O = A · B and I = C · D."""

    first: Tensor
    second: Tensor
    scale: Scale

    def delta(self, base_OI: Tensor) -> Tensor:
        return self.scale * torch.kron(self.first, self.second).reshape(base_OI.shape)

    def beside(self, layer: Layer, x: Tensor, weight: float) -> Tensor:
        if not isinstance(layer, nn.Linear):
            return super().beside(layer, x, weight)
        # One factor after the other: ΔW is far larger than both.
        first_AC, second_BD = (self.first * (self.scale * weight)).to(x.dtype), self.second.to(x.dtype)
        half_CB = functional.linear(x.unflatten(-1, (first_AC.shape[1], second_BD.shape[1])), second_BD)
        return (first_AC @ half_CB).flatten(-2)


@dataclass(frozen=True)
class GLoRA(Change):
    """scale · W · a1 · a2, and a `LowRank`."""

    a1_IR: Tensor
    a2_RI: Tensor
    scale: float
    low_rank: LowRank

    def delta(self, base_OI: Tensor) -> Tensor:
        turned = torch.einsum("or...,ri->oi...", torch.einsum("oi...,ir->or...", base_OI, self.a1_IR), self.a2_RI)
        return self.scale * turned + self.low_rank.delta(base_OI)

    def beside(self, layer: Layer, x: Tensor, weight: float) -> Tensor:
        a1 = (self.a1_IR * (self.scale * weight)).to(x.dtype)
        turned = _pointwise(_pointwise(x, _kernel_of(layer, self.a2_RI).to(x.dtype)), _kernel_of(layer, a1))
        return without_bias(layer, turned) + self.low_rank.beside(layer, x, weight)


@dataclass(frozen=True)
class Full(Change):
    """ΔW as it is. Kept in the file's dtype, since it is as large as the model."""

    diff: Tensor

    def delta(self, base_OI: Tensor) -> Tensor:
        return self.diff.float().reshape(base_OI.shape)


@dataclass(frozen=True)
class Scaling(Change):
    """IA³: each row of W, or each column where `on_input`, times a number of its own."""

    factors: Tensor
    on_input: bool

    def delta(self, base_OI: Tensor) -> Tensor:
        return base_OI * along(self.factors, base_OI, axis=1 if self.on_input else 0)


def decomposed(base_OI: Tensor, delta_OI: Tensor, magnitude: Tensor, *, on_output: bool) -> Tensor:
    """DoRA's weight: W + ΔW with the norm of each row (`on_output`) or column replaced by its `magnitude`."""
    sum_OI = base_OI + delta_OI
    axis = 0 if on_output else 1
    norms = sum_OI.transpose(0, axis).flatten(1).norm(dim=1)
    # A row of zeros has no direction, and stays one.
    factors = magnitude.flatten() / norms.clamp_min(torch.finfo(torch.float32).tiny)
    return sum_OI * along(factors, sum_OI, axis=axis)


def along(values: Tensor, weight_OI: Tensor, *, axis: int) -> Tensor:
    """One value for each row (axis 0) or column (1) of a weight, in a shape that multiplies with it."""
    shape = [1] * weight_OI.dim()
    shape[axis] = -1
    return values.reshape(shape)


def family_of(parts: set[str]) -> Family:
    """By the suffixes of a module's tensors, as src/runtime/sdxl/lora.ts has it. `dora_scale` may stand beside most."""
    rest = parts - _COMMON
    if any(part.startswith("hada_") for part in rest):
        return "LoHa"
    if any(part.startswith("lokr_") for part in rest):
        return "LoKr"
    if any(part.startswith("oft_") for part in rest):
        return "OFT"
    if "on_input" in rest:
        return "IA3"
    if rest >= _GLORA:
        return "GLoRA" if rest <= {*_GLORA, "bm.weight"} else "unknown"
    if rest >= _LORA:
        return "LoRA" if rest <= {*_LORA, "lora_mid.weight"} else "unknown"
    if rest and rest <= {"w_norm", "b_norm"}:
        return "norm"
    return "full" if rest <= {"diff"} and not parts.isdisjoint({"diff", "diff_b"}) else "unknown"


def change_of(family: Family, parts: Parts, shape: torch.Size, alpha: float | None) -> Change | None:
    """ΔW of a layer whose weight has that shape. None where only a bias changes. Raises Misfit.

    `alpha` None means a scale of one. Families without a ΔW (norm, OFT, unknown) are the caller's to tell apart.
    """
    read = _Reader(parts, shape, alpha)
    match family:
        case "LoRA":
            return read.low_rank("lora_down.weight", "lora_up.weight", "lora_mid.weight")
        case "LoHa":
            return read.loha()
        case "LoKr":
            return read.lokr()
        case "GLoRA":
            return read.glora()
        case "IA3":
            return read.scaling()
        case "full":
            return Full(read.sized("diff", shape)) if "diff" in parts else None
        case _:
            raise AssertionError(f"{family} has no ΔW")


def kronecker_factor(parts: Parts, which: Literal["1", "2"]) -> Tensor:
    """One factor of a LoKr as a matrix, kernels flattened behind its columns."""
    if f"lokr_w{which}" in parts:
        return parts[f"lokr_w{which}"].float().flatten(1)
    a, b = parts[f"lokr_w{which}_a"].float(), parts[f"lokr_w{which}_b"].float()
    core = parts.get(f"lokr_t{which}")
    return _product(a, b.flatten(1), None if core is None else core.float()).flatten(1)


class _Reader:
    """Parts as formulas need them, each checked against the layer's weight."""

    def __init__(self, parts: Parts, shape: torch.Size, alpha: float | None) -> None:
        self._parts = parts
        self._shape = shape
        self._alpha = alpha
        self._out, self._in, self._kernel = shape[0], shape[1], shape[2:]
        self._ones = (1,) * len(self._kernel)

    def low_rank(self, down: str, up: str, mid: str) -> LowRank:
        rank = self._rank(down)
        if mid in self._parts:
            middle = self.sized(mid, (self._rank(mid), rank, *self._kernel)).float()
            inner = (rank, self._in, *self._ones)
        else:
            middle, inner = None, (rank, self._in, *self._kernel)
        outer = (self._out, rank if middle is None else middle.shape[0], *self._ones)
        # torch chooses how it multiplies also by whether a gradient is wanted. As parameters these give the very
        # pictures, bit for bit, that the training of the file gave.
        return LowRank(
            down=nn.Parameter(self.sized(down, inner).float()),
            up=nn.Parameter(self.sized(up, outer).float()),
            mid=middle,
            scale=self._scale(rank),
        )

    def loha(self) -> LoHa:
        factors = []
        for which in ("1", "2"):
            a, b, core = f"hada_w{which}_a", f"hada_w{which}_b", f"hada_t{which}"
            rank = self._rank(b)
            if core in self._parts:  # `a` stands the other way round here
                middle = self.sized(core, (self._rank(a), rank, *self._kernel)).float()
                pair = self.sized(a, (middle.shape[0], self._out)), self.sized(b, (rank, self._in))
            else:
                middle = None
                columns = self._in * self._kernel.numel()
                pair = self.sized(a, (self._out, rank)), self.sized(b, (rank, columns))
            factors.append((pair[0].float(), pair[1].float(), middle))
        return LoHa(factors[0], factors[1], self._scale(self._rank("hada_w1_b")))

    def lokr(self) -> LoKr:
        first, second = self._kronecker("1"), self._kronecker("2")
        made = (first.shape[0] * second.shape[0], first.shape[1] * second.shape[1])
        if made != (self._out, self._in * self._kernel.numel()):
            raise Misfit(f"makes a weight of {list(made)}, and this checkpoint has {list(self._shape)}")
        ranks = [self._rank(part) for part in ("lokr_w1_b", "lokr_w2_b") if part in self._parts]
        return LoKr(first, second, self._scale(ranks[0]) if ranks else 1.0)

    def glora(self) -> GLoRA:
        # Old files have 1 and 2 exchanged.
        b1, b2 = self._part("b1.weight").shape, self._part("b2.weight").shape
        is_new = b1[0] == self._out and b2[1] == self._in and b1[1] == b2[0]
        one, two = ("1", "2") if is_new else ("2", "1")
        low_rank = self.low_rank(f"b{two}.weight", f"b{one}.weight", "bm.weight")
        rank = self._rank(f"a{two}.weight")
        return GLoRA(
            a1_IR=self.sized(f"a{one}.weight", (self._in, rank)).float(),
            a2_RI=self.sized(f"a{two}.weight", (rank, self._in)).float(),
            scale=low_rank.scale,
            low_rank=low_rank,
        )

    def scaling(self) -> Scaling:
        on_input = bool(self._part("on_input").item())
        return Scaling(self.sized("weight", (self._in if on_input else self._out,)).float(), on_input)

    def sized(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor in that shape. A file may leave sizes of one out, and may flatten all behind the first."""
        tensor = self._part(name)
        accepted = [_without_ones(shape), _without_ones((shape[0], prod(shape[1:])))]
        if _without_ones(tensor.shape) not in accepted:
            raise Misfit(f'has "{name}" of shape {list(tensor.shape)}, and this checkpoint needs {list(shape)}')
        return tensor.reshape(shape)

    def _kronecker(self, which: Literal["1", "2"]) -> Tensor:
        if f"lokr_w{which}" not in self._parts:
            for part in ("a", "b"):
                self._part(f"lokr_w{which}_{part}")
        return kronecker_factor(self._parts, which)

    def _part(self, name: str) -> Tensor:
        if name not in self._parts:
            raise Misfit(f'lacks "{name}"')
        return self._parts[name]

    def _rank(self, name: str) -> int:
        tensor = self._part(name)
        if tensor.dim() < 2 or tensor.shape[0] == 0:
            raise Misfit(f'has "{name}" of shape {list(tensor.shape)}, which has no rank')
        return tensor.shape[0]

    def _scale(self, rank: int) -> float:
        return 1.0 if self._alpha is None else self._alpha / rank


def _without_ones(shape: tuple[int, ...]) -> list[int]:
    return [size for size in shape if size != 1]


def _product(a: Tensor, b: Tensor, core: Tensor | None) -> Tensor:
    """a · b, or, with a core [P, Q, K, K] between aᵀ [P, O] and b [Q, I]: [O, I, K, K]."""
    return a @ b if core is None else torch.einsum("pqkl,po,qi->oikl", core, a, b)


def through(layer: Layer, x: Tensor, weight: Tensor) -> Tensor:
    """As the layer computes, with another weight and no bias."""
    if isinstance(layer, nn.Linear):
        return functional.linear(x, weight)
    return functional.conv2d(x, weight, stride=layer.stride, padding=layer.padding)


def without_bias(layer: Layer, x: Tensor) -> Tensor:
    """As the layer computes, but for its bias."""
    return layer.product(x) if isinstance(layer, Fp8Layer) else through(layer, x, layer.weight)


def _pointwise(x: Tensor, weight: Tensor) -> Tensor:
    return functional.linear(x, weight) if weight.dim() == 2 else functional.conv2d(x, weight)


def _kernel_of(layer: Layer, matrix: Tensor) -> Tensor:
    """A matrix as the weight of a linear layer or of a 1×1 convolution, as the layer is."""
    return matrix if isinstance(layer, nn.Linear) else matrix[:, :, None, None]
