"""The strongest directions of modules that are no LoRA: LoHa, LoKr, GLoRA and full.

What ΔW is stands in families.py. Here is what lets its directions be found without it where factors are small: of which
two factors it is a product. Where they are not small, ΔW is taken from there and decomposed as a matrix, [O, I · K].

Shape letters: O out features, I in features, K places of a kernel, R rank; P and Q the ranks of a core.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import replace
from math import prod

import torch
from torch import Tensor

from lora_worker.base_weights import BaseWeight, read_base_weight
from lora_worker.directions import (
    Directions,
    decompose_kronecker,
    decompose_matrix,
    decompose_pairs,
    residual_along,
)
from lora_worker.errors import WorkerError, bad_input
from lora_worker.families import Misfit, change_of, family_of
from lora_worker.lora_modules import ModuleTensors

Shape = tuple[int, ...]


class Extraction(ABC):
    """One module, its shapes checked. Raises `bad-input` at once where they do not fit together."""

    module: ModuleTensors
    flat_shape: tuple[int, int]
    """O and I · K."""
    rank: int
    """Directions that are extracted: as many as ΔW can have, and not more than were asked for."""
    kernel: Shape
    """Empty for a linear layer."""

    @abstractmethod
    def directions(self, device: torch.device) -> Directions:
        """The `rank` strongest."""

    @property
    def alpha(self) -> float:
        """Of the LoRA that is extracted, whose scale is one."""
        return float(self.rank)

    @property
    def up_shape(self) -> Shape:
        return self.flat_shape[0], self.rank, *(1 for _ in self.kernel)

    @property
    def down_shape(self) -> Shape:
        return self.rank, self.flat_shape[1] // prod(self.kernel), *self.kernel


def extraction_of(module: ModuleTensors, base: BaseWeight | None, *, at_most: int) -> Extraction:
    """`base` is the weight that the module adapts, where it is known. A GLoRA cannot do without."""
    match module.family:
        case "LoHa":
            return LoHa(module, base, at_most)
        case "LoKr":
            return LoKr(module, base, at_most)
        case "GLoRA":
            return GLoRA(module, base, at_most)
        case "full":
            return Full(module, at_most)
        case _:
            raise AssertionError(f"{module.family} is not extracted")


class LoHa(Extraction):
    """The product place by place of two products of rank r is one product of rank r²: its factors are all products of
    a column of the one with a column of the other, and of rows likewise (Khatri and Rao)."""

    def __init__(self, module: ModuleTensors, base: BaseWeight | None, at_most: int) -> None:
        first, second = (_Product(module, f"hada_w{i}_a", f"hada_w{i}_b", f"hada_t{i}") for i in (1, 2))
        if first.flat_shape != second.flat_shape:
            raise module.misfit()
        self.module, self.flat_shape, self._factors = module, first.flat_shape, (first, second)
        self.kernel = first.kernel or _kernel(module.name, self.flat_shape, base)
        self.rank = min(at_most, *self.flat_shape, first.inner * second.inner)

    def directions(self, device: torch.device) -> Directions:
        first, second = self._factors
        if 2 * first.inner * second.inner > min(self.flat_shape):
            # Of a core the kernel is known; else the factors are as flat as ΔW is here.
            kernel = first.kernel or second.kernel
            shape = (self.flat_shape[0], self.flat_shape[1] // prod(kernel), *kernel)
            return decompose_matrix(dense_change(self.module, shape, device), self.rank)
        (a_OP, b_PI), (c_OQ, d_QI) = first.read(device), second.read(device)
        up_OR = (a_OP[:, :, None] * c_OQ[:, None, :]).flatten(1)
        down_RI = (b_PI[:, None, :] * d_QI[None, :, :]).flatten(0, 1)
        return _of_pair(up_OR, down_RI, self.rank, _scale(self.module, first.rank))


class LoKr(Extraction):
    """Neither ΔW nor a large factor's smallest directions are ever needed: see `decompose_kronecker`."""

    def __init__(self, module: ModuleTensors, base: BaseWeight | None, at_most: int) -> None:
        self.module = module
        self._first, self._second = _kronecker_factor(module, 1), _kronecker_factor(module, 2)
        (a, c), (b, d) = self._first.flat_shape, self._second.flat_shape
        self.flat_shape = (a * b, c * d)
        self.kernel = self._second.kernel or _kernel(module.name, self.flat_shape, base)
        self.rank = min(at_most, min(self._first.inner, a, c) * min(self._second.inner, b, d))

    def directions(self, device: torch.device) -> Directions:
        # The first factor that is a product says the rank, as in LyCORIS; without one there is no rank to divide by.
        ranks = [factor.rank_for_alpha for factor in (self._first, self._second) if factor.rank_for_alpha]
        scale = _scale(self.module, ranks[0]) if ranks else 1.0
        first, first_matrix = self._first.directions(self.rank, device)
        second, second_matrix = self._second.directions(self.rank, device)
        found = decompose_kronecker(first, second, self.rank)

        def change(x_IK: Tensor) -> Tensor:
            """(first ⊗ second) x without the product of the two."""
            x_CDK = x_IK.reshape(first_matrix.shape[1], second_matrix.shape[1], -1)
            half_CBK = torch.einsum("bd,cdk->cbk", second_matrix, x_CDK)
            return torch.einsum("ac,cbk->abk", first_matrix, half_CBK).flatten(0, 1)

        return replace(found, residual=residual_along(change, found)).times(scale)


class GLoRA(Extraction):
    """W a1 is one product with the base weight; then ΔW has a factor for each place of the kernel, and b1 b2 beside."""

    def __init__(self, module: ModuleTensors, base: BaseWeight | None, at_most: int) -> None:
        if base is None:
            raise bad_input(
                f'"{module.name}" in "{module.reader.path}" is a GLoRA, and its change is made of the base weight, '
                "which is not there.",
                hint="Give the checkpoint that the file was made for as the base.",
            )
        self.module, self._base = module, base
        self.kernel = base.shape[2:]
        out, into, area = base.shape[0], base.shape[1], prod(self.kernel)
        self.flat_shape = (out, into * area)
        order = next((order for order in ("12", "21") if self._fits(order)), None)
        if order is None:
            raise self._misfit()
        one, two = order
        self._a1, self._a2 = f"a{one}.weight", f"a{two}.weight"
        self._b = _Product(module, f"b{one}.weight", f"b{two}.weight", "bm.weight", up_is_turned=False)
        if self._b.flat_shape != self.flat_shape:
            raise self._misfit()
        self._inner = module.shapes[self._a1][1]
        self._whole_rank = self._inner * area + self._b.inner
        self.rank = min(at_most, *self.flat_shape, self._whole_rank)

    def _fits(self, order: str) -> bool:
        """Whether the four matrices fit the base with 1 and 2 in this order. The order of today is tried first."""
        shapes = [self.module.shapes[f"{part}.weight"] for digit in order for part in (f"a{digit}", f"b{digit}")]
        if any(len(shape) < 2 for shape in shapes):
            return False
        a1, b1, a2, _ = (_flat(shape) for shape in shapes)
        out, into = self._base.shape[:2]
        return a1 == (into, a2[0]) and a2[1] == into and b1[0] == out

    def _misfit(self) -> WorkerError:
        return bad_input(
            f"{self.module.misfit().message[:-1]}, nor to the base weight {list(self._base.shape)}.",
            hint="The file was made for another architecture.",
        )

    def directions(self, device: torch.device) -> Directions:
        out, area = self.flat_shape[0], prod(self.kernel)
        base = read_base_weight(self._base).to(device).reshape(self._base.shape)
        if 2 * self._whole_rank > min(self.flat_shape):
            return decompose_matrix(dense_change(self.module, base.shape, device, base), self.rank)
        w_OIK = base.reshape(out, -1, area)
        a1_IR, a2_RI = (self.module.matrix(part).to(device) for part in (self._a1, self._a2))
        b1_OR, b2_RI = self._b.read(device)
        scale = _scale(self.module, self._b.rank)
        turned_ORK = torch.einsum("oik,ir->ork", w_OIK, a1_IR)
        places_KK = torch.eye(area, device=device)
        a_down = torch.einsum("ri,kl->rkil", a2_RI, places_KK).reshape(-1, self.flat_shape[1])
        up_OR = torch.cat([turned_ORK.flatten(1), b1_OR], dim=1)
        return _of_pair(up_OR, torch.cat([a_down, b2_RI]), self.rank, scale)


class Full(Extraction):
    """The difference of two checkpoints, as it is."""

    def __init__(self, module: ModuleTensors, at_most: int) -> None:
        shape = module.shapes["diff"]
        if len(shape) < 2 or not prod(shape):
            raise module.misfit()
        self.module, self.flat_shape, self.kernel = module, _flat(shape), shape[2:]
        self.rank = min(at_most, *self.flat_shape)

    def directions(self, device: torch.device) -> Directions:
        return decompose_matrix(self.module.matrix("diff").to(device), self.rank)


# Beside what ΔW is made of.
_BESIDE = frozenset({"alpha", "diff_b"})


def dense_change(module: ModuleTensors, shape: Shape, device: torch.device, base: Tensor | None = None) -> Tensor:
    """ΔW as a matrix, scaled, by the formula of its family. `base` is the weight itself, for a GLoRA."""
    parts = {part: module.checked(part).to(device) for part in module.shapes if part not in _BESIDE}
    try:
        with torch.no_grad():
            change = change_of(family_of(set(module.shapes)), parts, torch.Size(shape), module.alpha())
            assert change is not None, "decompose leaves out modules whose bias alone changes"
            # Without a base weight only its shape counts.
            return change.delta(torch.empty(shape, device="meta") if base is None else base).flatten(1)
    except Misfit as bad:
        raise module.misfit() from bad


# Parts of families


class _Product:
    """a · b, or with a core Σ a[p, o] T[p, q, k] b[q, i], where `a` lies turned in a file unless it is said not to."""

    def __init__(self, module: ModuleTensors, a: str, b: str, core: str, *, up_is_turned: bool = True) -> None:
        self._module, self._a, self._b = module, a, b
        self._core = core if core in module else None
        self._is_turned = self._core is not None and up_is_turned
        if a not in module or b not in module or min(len(module.shapes[a]), len(module.shapes[b])) < 2:
            raise module.misfit()
        (rows, width), (self.rank, columns) = _flat(module.shapes[a]), _flat(module.shapes[b])
        out, self.inner = (width, rows) if self._is_turned else (rows, width)
        self.kernel: Shape = module.shapes[core][2:] if self._core else ()
        fits = module.shapes[core][:2] == (self.inner, self.rank) if self._core else self.inner == self.rank
        self.flat_shape = (out, columns * prod(self.kernel))
        if not fits or not self.rank * self.inner * prod(self.flat_shape):
            raise module.misfit()

    @property
    def rank_for_alpha(self) -> int:
        return self.rank

    def read(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """[O, R] and [R, I · K]: a core is folded into the second factor."""
        a, b_QI = self._module.matrix(self._a).to(device), self._module.matrix(self._b).to(device)
        a_OP = a.mT if self._is_turned else a
        if self._core is None:
            return a_OP, b_QI
        core_PQK = self._module.matrix(self._core).to(device).reshape(a_OP.shape[1], self.rank, -1)
        return a_OP, torch.einsum("pqk,qi->pik", core_PQK, b_QI).flatten(1)

    def directions(self, rank: int, device: torch.device) -> tuple[Directions, Tensor]:
        up_OR, down_RI = self.read(device)
        return decompose_pairs(up_OR[None], down_RI[None])[0].strongest(rank), up_OR @ down_RI


class _Whole:
    """A factor that a LoKr stores as it is."""

    rank_for_alpha = 0

    def __init__(self, module: ModuleTensors, part: str) -> None:
        shape = module.shapes[part]
        if len(shape) < 2 or not prod(shape):
            raise module.misfit()
        self._module, self._part, self.flat_shape, self.kernel = module, part, _flat(shape), shape[2:]
        self.inner = min(self.flat_shape)

    def directions(self, rank: int, device: torch.device) -> tuple[Directions, Tensor]:
        matrix = self._module.matrix(self._part).to(device)
        return decompose_matrix(matrix, rank), matrix


def _kronecker_factor(module: ModuleTensors, which: int) -> _Product | _Whole:
    if f"lokr_w{which}" in module:
        return _Whole(module, f"lokr_w{which}")
    return _Product(module, f"lokr_w{which}_a", f"lokr_w{which}_b", f"lokr_t{which}")


def _of_pair(up_OR: Tensor, down_RI: Tensor, rank: int, scale: float) -> Directions:
    return decompose_pairs(up_OR[None], down_RI[None])[0].strongest(rank).times(scale)


def _scale(module: ModuleTensors, rank: int) -> float:
    alpha = module.alpha()
    return 1.0 if alpha is None else alpha / rank


def _flat(shape: Shape) -> tuple[int, int]:
    return shape[0], prod(shape[1:])


# Kernels that no tensor of the module shows, by the names of SDXL's and of Stable Diffusion's layers.
_LARGE_KERNELS = re.compile(
    r"lora_unet_(.*_(in_layers_2|out_layers_3|op|conv|conv1|conv2)|conv_in|conv_out|input_blocks_0_0|out_2)"
)
_SINGLE_KERNELS = re.compile(r"lora_unet_.*_(skip_connection|conv_shortcut)")


def _kernel(name: str, flat_shape: tuple[int, int], base: BaseWeight | None) -> Shape:
    """Of a module whose factors are stored flat: that of the base weight, else what its name says. Empty: linear."""
    if base is not None and _flat(base.shape) == flat_shape:
        return base.shape[2:]
    if _LARGE_KERNELS.fullmatch(name) and flat_shape[1] % 9 == 0:
        return (3, 3)
    return (1, 1) if _SINGLE_KERNELS.fullmatch(name) else ()
