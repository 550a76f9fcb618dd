"""Small adapters of every family for one weight, with the changed weight by the family's formula in double precision.

The formulas are written out apart from those of the worker, from the definitions of the families.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

RANK = 3


@dataclass(frozen=True)
class Sample:
    """`parts` are tensors by suffix. `changed(s)` is the weight at strength s, F64; `bias(s)` what the bias gets."""

    parts: dict[str, Tensor]
    changed: Callable[[float], Tensor]
    bias: Callable[[float], Tensor] | None = None


class Maker:
    """Random tensors, repeatable, around one weight [O, I] or [O, I, K, K]."""

    def __init__(self, weight: Tensor, seed: int) -> None:
        self.weight = weight.double()
        self.out, self.inn = weight.shape[:2]
        self.kernel = tuple(weight.shape[2:])
        self.ones = (1,) * len(self.kernel)
        self._generator = torch.Generator().manual_seed(seed)

    def random(self, *shape: int) -> Tensor:
        """So large that a product of two along the rank is about as large as a weight."""
        return torch.randn(shape, generator=self._generator) * 0.15

    def additive(self, parts: dict[str, Tensor], delta: Tensor) -> Sample:
        delta = delta.reshape(self.weight.shape)
        return Sample(parts, lambda strength: self.weight + strength * delta)


def lora(make: Maker) -> Sample:
    down, up = make.random(RANK, make.inn, *make.kernel), make.random(make.out, RANK, *make.ones)
    parts = {"lora_down.weight": down, "lora_up.weight": up, "alpha": torch.tensor(2.0)}
    return make.additive(parts, 2 / RANK * (up.double().flatten(1) @ down.double().flatten(1)))


def lora_without_alpha(make: Maker) -> Sample:
    down, up = make.random(RANK, make.inn, *make.kernel), make.random(make.out, RANK, *make.ones)
    return make.additive(
        {"lora_down.weight": down, "lora_up.weight": up}, up.double().flatten(1) @ down.double().flatten(1)
    )


def tucker(make: Maker) -> Sample:
    down, up = make.random(RANK, make.inn, *make.ones), make.random(make.out, RANK, *make.ones)
    mid = make.random(RANK, RANK, *make.kernel) * 5
    delta = torch.zeros_like(make.weight)
    for outer in range(RANK):
        for inner in range(RANK):
            row, column = up[:, outer].double().flatten(), down[inner].double().flatten()
            delta += row[:, None, None, None] * column[None, :, None, None] * mid[outer, inner].double()
    parts = {"lora_down.weight": down, "lora_up.weight": up, "lora_mid.weight": mid, "alpha": torch.tensor(1.5)}
    return make.additive(parts, 1.5 / RANK * delta)


def loha(make: Maker) -> Sample:
    columns = make.weight[0].numel()
    parts = {
        "hada_w1_a": make.random(make.out, RANK) * 3,
        "hada_w1_b": make.random(RANK, columns) * 3,
        "hada_w2_a": make.random(make.out, RANK),
        "hada_w2_b": make.random(RANK, columns),
    }
    first, second = (parts[f"hada_w{n}_a"].double() @ parts[f"hada_w{n}_b"].double() for n in "12")
    return make.additive({**parts, "alpha": torch.tensor(1.0)}, first * second / RANK)


def tucker_loha(make: Maker) -> Sample:
    parts, products = {"alpha": torch.tensor(6.0)}, []
    for n in "12":
        core = make.random(RANK, RANK, *make.kernel) * 5
        a, b = make.random(RANK, make.out) * 2, make.random(RANK, make.inn) * 2
        parts |= {f"hada_t{n}": core, f"hada_w{n}_a": a, f"hada_w{n}_b": b}
        step = torch.tensordot(a.double().T, core.double(), dims=([1], [0]))
        products.append(torch.tensordot(step, b.double(), dims=([1], [0])).permute(0, 3, 1, 2))
    return make.additive(parts, 6 / RANK * products[0] * products[1])


def _kronecker(make: Maker, first: Tensor, second: Tensor) -> Tensor:
    """Element by element: row a·B + b, column c·D + d."""
    (_, columns), (rows, inner) = first.shape, second.shape[:2]
    delta = torch.zeros_like(make.weight)
    for o in range(make.out):
        for c in range(columns):
            delta[o, c * inner : (c + 1) * inner] = first[o // rows, c] * second[o % rows]
    return delta


def lokr(make: Maker) -> Sample:
    first, second = make.random(2, 2) * 5, make.random(make.out // 2, make.inn // 2, *make.kernel)
    # Both whole: there is no rank, and alpha is not heard.
    parts = {"lokr_w1": first, "lokr_w2": second, "alpha": torch.tensor(77.0)}
    return make.additive(parts, _kronecker(make, first.double(), second.double()))


def low_rank_lokr(make: Maker) -> Sample:
    first = make.random(2, 2) * 5
    a, b = make.random(make.out // 2, RANK), make.random(RANK, make.weight[0].numel() // 2)
    second = (a.double() @ b.double()).reshape(make.out // 2, make.inn // 2, *make.kernel)
    parts = {"lokr_w1": first, "lokr_w2_a": a, "lokr_w2_b": b, "alpha": torch.tensor(2.0)}
    return make.additive(parts, 2 / RANK * _kronecker(make, first.double(), second))


def tucker_lokr(make: Maker) -> Sample:
    a1, b1 = make.random(2, RANK) * 3, make.random(RANK, 2) * 3
    core = make.random(RANK, RANK, *make.kernel) * 5
    a, b = make.random(RANK, make.out // 2), make.random(RANK, make.inn // 2)
    step = torch.tensordot(a.double().T, core.double(), dims=([1], [0]))
    second = torch.tensordot(step, b.double(), dims=([1], [0])).permute(0, 3, 1, 2)
    parts = {"lokr_w1_a": a1, "lokr_w1_b": b1, "lokr_t2": core, "lokr_w2_a": a, "lokr_w2_b": b}
    return make.additive(
        {**parts, "alpha": torch.tensor(3.0)}, _kronecker(make, a1.double() @ b1.double(), second) * 3 / RANK
    )


def glora(make: Maker) -> Sample:
    parts = {
        "a1.weight": make.random(make.inn, RANK, *make.ones),
        "a2.weight": make.random(RANK, make.inn, *make.ones),
        "b1.weight": make.random(make.out, RANK, *make.ones),
        "b2.weight": make.random(RANK, make.inn, *make.kernel),
    }
    a1, a2, b1, b2 = (parts[f"{name}.weight"].double().flatten(1) for name in ("a1", "a2", "b1", "b2"))
    turned = torch.tensordot(make.weight, a1 @ a2, dims=([1], [0]))
    turned = turned.permute(0, -1, *range(1, turned.dim() - 1))
    delta = 1.5 / RANK * (turned + (b1 @ b2).reshape(make.weight.shape))
    return make.additive({**parts, "alpha": torch.tensor(1.5)}, delta)


def old_glora(make: Maker) -> Sample:
    new = glora(make)
    other = {"a1": "a2", "a2": "a1", "b1": "b2", "b2": "b1"}
    exchanged = {
        f"{other[name[:2]]}{name[2:]}" if name[:2] in other else name: value for name, value in new.parts.items()
    }
    return Sample(exchanged, new.changed)


def full(make: Maker) -> Sample:
    diff, diff_b = make.random(*make.weight.shape) / 3, make.random(make.out)
    return Sample(
        {"diff": diff, "diff_b": diff_b},
        lambda strength: make.weight + strength * diff.double(),
        lambda strength: strength * diff_b.double(),
    )


def ia3(make: Maker) -> Sample:
    factors = make.random(1, make.out, *make.ones)
    rows = factors.double().reshape(-1, 1, *make.ones)
    parts = {"weight": factors, "on_input": torch.tensor(0)}
    return make.additive(parts, make.weight * rows)


def ia3_on_input(make: Maker) -> Sample:
    factors = make.random(make.inn)
    return make.additive(
        {"weight": factors, "on_input": torch.tensor(1)},
        make.weight * factors.double().reshape(1, -1, *make.ones),
    )


def dora(make: Maker) -> Sample:
    plain = lora(make)
    scale = make.random(make.out, *(1 for _ in make.weight.shape[1:])).abs() * 4 + 0.2
    moved = plain.changed(1)
    whole = torch.stack([scale[o].double() * moved[o] / moved[o].norm() for o in range(make.out)])
    return Sample({**plain.parts, "dora_scale": scale}, lambda strength: make.weight + strength * (whole - make.weight))


def dora_on_input(make: Maker) -> Sample:
    """As LyCORIS wrote it until 2025."""
    plain = loha(make)
    scale = make.random(1, make.inn, *make.ones).abs() * 4 + 0.2
    moved = plain.changed(1)
    columns = [scale[0, i].double() * moved[:, i] / moved[:, i].norm() for i in range(make.inn)]
    whole = torch.stack(columns, dim=1)
    return Sample({**plain.parts, "dora_scale": scale}, lambda strength: make.weight + strength * (whole - make.weight))


FAMILIES = [
    *(lora, lora_without_alpha, loha, lokr, low_rank_lokr, glora, old_glora, full),
    *(ia3, ia3_on_input, dora, dora_on_input),
]
FAMILIES_OF_KERNELS = [tucker, tucker_loha, tucker_lokr]
"""These need a kernel of more than one pixel."""
