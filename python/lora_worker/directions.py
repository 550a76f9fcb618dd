"""Singular value decompositions of changes of weights, in whatever form the changes come.

Each gives U^T, σ and V^T with one row per direction, the strongest first. A direction has the sign that makes the
largest entry of its row of U^T positive, so that results do not depend on the choice of a library.

Shape letters: N modules of one shape, O out features, I in features times kernel area, R rank, K directions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

# From this rank on modules are taken apart one by one, and a factor by its Gram matrix where it is so many times as
# long as its rank.
_LARGE_RANK = 32
_TALL = 4
# How many times the rounding of single precision may be amplified when a factor is multiplied by its inverse root.
_MAX_AMPLIFICATION = 8.0
# Columns whose products are added in single precision before their sum joins the others in double precision.
_SINGLE_COLUMNS = 256
# Columns at a time that a matrix is widened to double precision, to stay in a processor's cache; rows likewise.
_DOUBLE_COLUMNS = 1024
_DOUBLE_ROWS = 256
# Directions below this part of the strongest are rounding of the Gram matrix, in double precision.
_NOISE = 1e-7
# From here on the rounding of the Gram matrix shows in how orthogonal V is.
_STEEP = 1e-4
_PROBES = 8


@dataclass(frozen=True)
class Directions:
    """Of one module: [K, O], [K], [K, I], in F32."""

    u: Tensor
    s: Tensor
    vt: Tensor
    discarded: float = 0.0
    """Σσ² of the directions that were left out."""
    residual: float = 0.0
    """‖ΔW − U σ V‖ / ‖ΔW‖ but for what was left out, as it was measured."""

    @property
    def energy(self) -> float:
        """‖ΔW‖², from all directions."""
        return float(self.s.double().square().sum()) + self.discarded

    def strongest(self, count: int) -> Directions:
        """Without the directions behind the first `count`."""
        lost = float(self.s[count:].double().square().sum())
        return Directions(self.u[:count], self.s[:count], self.vt[:count], self.discarded + lost, self.residual)

    def times(self, scale: float) -> Directions:
        """Of the change that is `scale` times as strong; a negative scale turns the directions round."""
        turned = -self.u if scale < 0 else self.u
        return replace(self, u=turned, s=self.s * abs(scale), discarded=self.discarded * scale**2)


# Products of two factors


def decompose_pairs(up_NOR: Tensor, down_NRI: Tensor) -> list[Directions]:
    """Of up @ down for each of N modules, without ever forming an O x I product. A rank above O or I shrinks to it.

    Raises `FloatingPointError` where a factor, or their product, holds a number that is not finite.
    """
    if up_NOR.shape[2] < _LARGE_RANK:
        return _decompose_small(up_NOR, down_NRI)
    return [_decompose_large(up_OR, down_RI) for up_OR, down_RI in zip(up_NOR, down_NRI, strict=True)]


def _decompose_small(up_NOR: Tensor, down_NRI: Tensor) -> list[Directions]:
    """Orthonormal bases of both factors first: the decomposition is then that of an R x R core."""
    q_NOR, a_NRR = torch.linalg.qr(up_NOR)
    p_NIR, b_NRR = torch.linalg.qr(down_NRI.mT)
    x_NRK, s_NK, y_NKR = _decompose_core(a_NRR @ b_NRR.mT)
    u_NKO = x_NRK.mT @ q_NOR.mT
    signs_NK1 = _signs(u_NKO)
    return _measured(up_NOR, down_NRI, u_NKO * signs_NK1, s_NK, (y_NKR * signs_NK1) @ p_NIR.mT)


def _decompose_large(up_OR: Tensor, down_RI: Tensor) -> Directions:
    """The same for one module, with bases that are found by products of matrices wherever these are exact enough."""
    left, right = _basis(up_OR.mT), _basis(down_RI)
    while True:
        x_RK, s_K, y_KR = _decompose_core((left.core.mT.double() @ right.core.double()).float())
        u_KO = left.expand(x_RK.mT)
        if u_KO is None:
            left = _HouseholderBasis(up_OR.mT)
            continue
        signs_K1 = _signs(u_KO)
        vt_KI = right.expand(y_KR * signs_K1)
        if vt_KI is None:
            right = _HouseholderBasis(down_RI)
            continue
        return _measured(up_OR[None], down_RI[None], (u_KO * signs_K1)[None], s_K[None], vt_KI[None])[0]


class _HouseholderBasis:
    """rows [R, M] = core [R, K] @ Q with orthonormal rows of Q, whatever the rows are."""

    def __init__(self, rows_RM: Tensor) -> None:
        self._q_MK, core_KR = torch.linalg.qr(rows_RM.mT)
        self.core = core_KR.mT

    def expand(self, z_ZK: Tensor) -> Tensor:
        """z @ Q."""
        return z_ZK @ self._q_MK.mT


class _GramBasis:
    """The same by a Cholesky root of the Gram matrix: Q = root⁻¹ · rows, which is never formed.

    Half the work, and nearly all of it products of matrices. Rows of z @ Q are m · rows, so the rounding of single
    precision is amplified by √Σ m_k² ‖rows_k‖²: 1 where the rows are orthogonal, however different their lengths are,
    and about 3 for the down of a trained LoRA. Up to 8 the result is as orthogonal as Householder's, with a Gram
    matrix that is summed as `_quick_gram` does (measured; for the theory see Yamamoto et al., "Roundoff error
    analysis of the CholeskyQR2 algorithm", 2015).
    """

    def __init__(self, rows_RM: Tensor, gram_RR: Tensor, root_RR: Tensor) -> None:
        self._rows_RM = rows_RM
        self._squares_R = gram_RR.diagonal()
        self.core = root_RR

    def expand(self, z_ZR: Tensor) -> Tensor | None:
        """z @ Q, or None where that would not be exact enough."""
        mixing_ZR = torch.linalg.solve_triangular(self.core, z_ZR.double(), upper=False, left=False)
        amplification = (mixing_ZR.square() @ self._squares_R).max().sqrt()
        return mixing_ZR.float() @ self._rows_RM if float(amplification) <= _MAX_AMPLIFICATION else None


def _basis(rows_RM: Tensor) -> _HouseholderBasis | _GramBasis:
    if rows_RM.shape[1] < _TALL * rows_RM.shape[0]:
        return _HouseholderBasis(rows_RM)
    gram_RR = _quick_gram(rows_RM)
    root_RR, failed = torch.linalg.cholesky_ex(gram_RR)
    # Rows without full rank have no root, nor do numbers that are not finite.
    return _HouseholderBasis(rows_RM) if int(failed) != 0 else _GramBasis(rows_RM, gram_RR, root_RR)


def _quick_gram(rows_RM: Tensor) -> Tensor:
    """rows @ rows^T to eight digits of the rows' lengths, at the speed of single precision."""
    gram_RR = rows_RM.new_zeros((rows_RM.shape[0],) * 2, dtype=torch.float64)
    sum_RR = rows_RM.new_empty(gram_RR.shape)
    for piece in rows_RM.split(_SINGLE_COLUMNS, dim=1):
        gram_RR += torch.mm(piece, piece.mT, out=sum_RR)
    return gram_RR


def _decompose_core(core: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    _refuse_what_is_not_finite(core)
    return torch.linalg.svd(core, full_matrices=False)


def _refuse_what_is_not_finite(matrix: Tensor) -> None:
    """Every number of a factor is in the core and every one of a matrix in its Gram matrix, which are quickly read."""
    if not torch.isfinite(matrix).all():
        raise FloatingPointError


def _signs(u_KO: Tensor) -> Tensor:
    """By row, what makes its largest entry positive."""
    largest_K1 = u_KO.abs().argmax(dim=-1, keepdim=True)
    return torch.where(u_KO.gather(-1, largest_K1) < 0, -1.0, 1.0)


def _measured(up_NOR: Tensor, down_NRI: Tensor, u_NKO: Tensor, s_NK: Tensor, vt_NKI: Tensor) -> list[Directions]:
    """‖ΔW − U σ V‖ is estimated from what both make of a few random vectors: for vectors of independent entries of
    variance one the mean of ‖E x‖² is ‖E‖² (Hutchinson, 1990)."""
    probes_IP = _probes(down_NRI.shape[2]).to(down_NRI)
    error_NOP = up_NOR @ (down_NRI @ probes_IP) - u_NKO.mT @ (s_NK[:, :, None] * (vt_NKI @ probes_IP))
    squares_N = error_NOP.double().square().sum(dim=(1, 2)) / _PROBES
    energies_N = s_NK.double().square().sum(dim=1)
    residuals = torch.where(energies_N > 0, squares_N / energies_N, 0.0).sqrt().tolist()
    return [
        Directions(u_KO, s_K, vt_KI, residual=residual)
        for u_KO, s_K, vt_KI, residual in zip(u_NKO, s_NK, vt_NKI, residuals, strict=True)
    ]


_probes_by_length: dict[int, Tensor] = {}


def _probes(length: int) -> Tensor:
    """The same at each call."""
    if length not in _probes_by_length:
        generator = torch.Generator().manual_seed(length)
        _probes_by_length[length] = torch.randn(length, _PROBES, generator=generator)
    return _probes_by_length[length]


# Whole matrices


def decompose_matrix(w_OI: Tensor, rank: int) -> Directions:
    """The `rank` strongest directions of a matrix, exactly.

    By the Gram matrix of its shorter side, in double precision: σ below 1e-7 of the strongest are noise, far below
    what single precision holds anyway. A randomized method with some power iterations takes a fifth of the time,
    but is right only where the spectrum falls off, and thresholds compare single σ; a file is extracted once.
    """
    if w_OI.shape[0] > w_OI.shape[1]:
        turned = decompose_matrix(w_OI.mT, rank)
        signs_K1 = _signs(turned.vt)
        return replace(turned, u=turned.vt * signs_K1, vt=turned.u * signs_K1)
    gram_OO = _exact_gram(w_OI)
    _refuse_what_is_not_finite(gram_OO)
    squares_O, u_OO = (part.flip(-1) for part in torch.linalg.eigh(gram_OO))
    squares_O = torch.where(squares_O > _NOISE**2 * squares_O[0].clamp_min(0), squares_O, 0.0)
    s_K, u_KO = squares_O[:rank].sqrt(), u_OO[:, :rank].mT
    image_KI = torch.cat([u_KO @ piece.double() for piece in w_OI.split(_DOUBLE_COLUMNS, dim=1)], dim=1)
    is_steep = not float(s_K[-1]) > _STEEP * float(s_K[0])
    vt_KI = _orthonormal(image_KI) if is_steep else image_KI / s_K[:, None]
    signs_K1 = _signs(u_KO)
    return Directions((u_KO * signs_K1).float(), s_K.float(), (vt_KI * signs_K1).float(), float(squares_O[rank:].sum()))


def _exact_gram(w_OI: Tensor) -> Tensor:
    """w @ w^T in double precision, without a copy of w in it. Only the lower half is right, and `eigh` reads that."""
    gram_OO = w_OI.new_zeros((w_OI.shape[0],) * 2, dtype=torch.float64)
    for piece in w_OI.split(_DOUBLE_COLUMNS, dim=1):
        wide = piece.double()
        for first in range(0, len(wide), _DOUBLE_ROWS):
            last = first + _DOUBLE_ROWS
            gram_OO[first:last, :last].addmm_(wide[first:last], wide[:last].mT)
    return gram_OO


def _orthonormal(image_KI: Tensor) -> Tensor:
    """Rows that are nearly orthogonal, made so, of length one; where one is zero, some other that is orthogonal."""
    q_IK, r_KK = torch.linalg.qr(image_KI.mT)
    return (q_IK * torch.where(r_KK.diagonal() < 0, -1.0, 1.0)).mT


# Kronecker products


def decompose_kronecker(first: Directions, second: Directions, rank: int) -> Directions:
    """The `rank` strongest directions of first ⊗ second, from those of both.

    The decomposition of a Kronecker product is the product of the decompositions (Van Loan, "The ubiquitous
    Kronecker product", 2000), and no direction behind the `rank` strongest of a factor is among those of the product.
    """
    products = torch.outer(first.s.double(), second.s.double()).flatten()
    s, order = products.sort(descending=True, stable=True)
    rank = min(rank, len(s))
    i, j = order[:rank] // len(second.s), order[:rank] % len(second.s)
    u_KO = (first.u[i][:, :, None] * second.u[j][:, None, :]).flatten(1)
    vt_KI = (first.vt[i][:, :, None] * second.vt[j][:, None, :]).flatten(1)
    signs_K1 = _signs(u_KO)
    within = float(s[rank:].square().sum())
    outside = first.discarded * second.energy + (first.energy - first.discarded) * second.discarded
    return Directions(u_KO * signs_K1, s[:rank].float(), vt_KI * signs_K1, within + outside)


def residual_along(change: Callable[[Tensor], Tensor], directions: Directions) -> float:
    """‖ΔW V − U σ‖ / ‖ΔW‖: how far the directions are from being singular. `change` multiplies ΔW by [I, K].

    With the energy that was discarded it is all of ‖ΔW − U σ V‖.
    """
    error_OK = change(directions.vt.mT) - directions.u.mT * directions.s
    length = float(torch.linalg.vector_norm(error_OK, dtype=torch.float64))
    return length / directions.energy**0.5 if directions.energy > 0 else 0.0
