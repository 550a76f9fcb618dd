"""Frozen layers whose weights take one byte per number (float8, e4m3fn), made whole where they are computed with.

    W ≈ s · q      q in float8: a sign, 4 bits of exponent, 3 of fraction, up to 448; s a power of two for each row

With a factor for each row, a small row keeps as many digits as a large one: W is off by 2.6 % (root mean square), where
a plain cast loses 19 % of weights as small as 0.003, which lie below its smallest normal number. Powers of two make
s · q exact in bf16, so the weight that is computed with is the same whatever the precision of the training.

The whole weight lives only as long as the product that needs it, in the backward pass as well: autograd keeps q. That
costs a conversion per layer and pass, and no product is faster for it.

Shape letters: O output features, I input features, K kernel sizes; a weight is [O, I] or [O, I, K, K].
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

Fp8Base = Literal["off", "on", "unet"]
"""Whose frozen weights are stored in fp8: nobody's, those of all models, or of the UNet alone."""

FP8_BASE: tuple[Fp8Base, ...] = get_args(Fp8Base)

FP8 = torch.float8_e4m3fn
_LARGEST = torch.finfo(FP8).max
# Rows of zeros have it. Far above what float32 and bf16 cannot hold any more.
_SMALLEST_EXPONENT = -100


class Fp8Linear(nn.Linear):
    """`scale` is [O, 1], in the dtype that is computed in."""

    scale: Tensor

    def forward(self, input: Tensor) -> Tensor:
        # A preview exchanges a weight for a whole one.
        return super().forward(input) if self.weight.dtype != FP8 else self.product(input, self.bias)

    def product(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        return cast(Tensor, _Linear.apply(x, self.weight, self.scale, bias))


class Fp8Conv2d(nn.Conv2d):
    """`scale` is [O, 1, 1, 1], in the dtype that is computed in."""

    scale: Tensor

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) if self.weight.dtype != FP8 else self.product(input, self.bias)

    def product(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        return cast(Tensor, _Convolution.apply(x, self.weight, self.scale, bias, self.stride, self.padding))


Fp8Layer = Fp8Linear | Fp8Conv2d


def split(weight: Tensor) -> tuple[Tensor, Tensor]:
    """q in float8 and s, [O, 1] or [O, 1, 1, 1], in the dtype of the weight."""
    peaks = weight.flatten(1).abs().amax(1).float()
    # The power of two above the quotient, so that nothing overflows.
    exponents = torch.frexp(peaks / _LARGEST).exponent.clamp(min=_SMALLEST_EXPONENT)
    scale = torch.exp2(exponents.float()).reshape(-1, *[1] * (weight.dim() - 1))
    return (weight.float() / scale).to(FP8), scale.to(weight.dtype)


def whole(q: Tensor, scale: Tensor) -> Tensor:
    """The weight, in the dtype of `scale`."""
    return q.to(scale.dtype) * scale


def weight_of(layer: nn.Module) -> Tensor:
    """The frozen weight of any layer, whole."""
    weight = layer.get_parameter("weight")
    return whole(weight, layer.get_buffer("scale")) if weight.dtype == FP8 else weight


def make_room(root: nn.Module) -> None:
    """Linear layers and convolutions below `root`, which have no memory yet, become layers for fp8."""
    for name, layer in list(root.named_modules()):
        new: Fp8Layer
        if type(layer) is nn.Linear:
            with torch.device("meta"):
                new = Fp8Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
        elif type(layer) is nn.Conv2d and layer.groups == 1 and layer.dilation == (1, 1):
            with torch.device("meta"):
                new = Fp8Conv2d(
                    layer.in_channels,
                    layer.out_channels,
                    cast(Any, layer.kernel_size),
                    cast(Any, layer.stride),
                    cast(Any, layer.padding),
                    bias=layer.bias is not None,
                )
        else:
            continue
        new.weight = nn.Parameter(new.weight.to(FP8), requires_grad=False)
        ones = [1] * (new.weight.dim() - 1)
        new.register_buffer("scale", torch.empty(new.weight.shape[0], *ones, device="meta"), persistent=False)
        root.set_submodule(name, new)


def layers_of(root: nn.Module) -> Iterator[tuple[str, Fp8Layer]]:
    """Those with a weight in fp8, by name."""
    for name, layer in root.named_modules():
        if isinstance(layer, Fp8Linear | Fp8Conv2d):
            yield name, layer


class Error:
    """How far weights are off, as they are put into fp8. The sums stay on the device until somebody asks."""

    def __init__(self) -> None:
        self._sums: Tensor | None = None

    def add(self, weight: Tensor, q: Tensor, scale: Tensor) -> None:
        exact = weight.float()
        sums = torch.stack([(whole(q, scale.float()) - exact).square().sum(), exact.square().sum()])
        self._sums = sums if self._sums is None else self._sums + sums

    def relative(self) -> float:
        """‖Ŵ − W‖ / ‖W‖ over all weights; 0 where there are none."""
        if self._sums is None:
            return 0.0
        wrong, right = self._sums.tolist()
        return float((wrong / right) ** 0.5) if right > 0 else 0.0


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, q: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(q, scale)
        return functional.linear(x, whole(q, scale), bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, scale = ctx.saved_tensors
        return gradient @ whole(q, scale), None, None, None


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, q: Tensor, scale: Tensor, bias: Tensor | None, stride: Any, padding: Any
    ) -> Tensor:
        ctx.save_for_backward(q, scale)
        ctx.size, ctx.stride, ctx.padding = x.shape, stride, padding
        return functional.conv2d(x, whole(q, scale), bias, stride, padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, scale = ctx.saved_tensors
        into = nn.grad.conv2d_input(ctx.size, whole(q, scale), gradient, ctx.stride, ctx.padding)
        return into, None, None, None, None, None
