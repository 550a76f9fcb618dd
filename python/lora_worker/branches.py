"""What is trained beside one layer, for every kind of network.

    LoRA      s · up(down(x)), with a core between them where it is a Tucker
    DoRA      W + ΔW, each row's length replaced: (g − 1) · W x + g · ΔW x with g = magnitude / ‖W + ΔW‖
    LoHa, LoKr, full   ΔW x, by the formulas of `families`
    norm      a change of the weight and the bias of a norm

It is computed beside the frozen layer and never added into its weight: a bf16 weight would round small updates away.
Parameters are F32 and are cast to the dtype of what flows through the layer. A new branch changes nothing.

Initial values are those of LyCORIS. Each tensor has a random stream of its own, so a module starts alike whichever
others are trained.

Shape letters: O output features, I input features, R rank, K kernel size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from lora_worker import families
from lora_worker.dropouts import Masks
from lora_worker.families import Layer, along, through, without_bias
from lora_worker.fp8 import weight_of
from lora_worker.kronecker import factors_of
from lora_worker.naming import LoraTarget
from lora_worker.network_settings import NetworkSettings
from lora_worker.streams import module_stream

SCALAR = "scalar"
"""The number that an adapter with `use_scalar` is multiplied with, [1]. It is no part of files."""

FOLDED_INTO = ("lora_up.weight", "hada_w1_a", "lokr_w1", "lokr_w1_a")
"""The factor that takes up the scalar in files, as LyCORIS has it: readers of all kinds know of it that way."""

KEPT_EXACT = frozenset({"dora_scale"})
"""Parts that files hold in F32: rounding a row's magnitude would round all of its weight, not a small change of it."""

STARTING_AT_ZERO = frozenset({"lora_up.weight", "hada_w2_a", "lokr_w2", "lokr_w2_b"})
"""The factor that is zero in a new branch, while those it is multiplied with are not. LoRA+ lets it learn faster."""

_TINY = torch.finfo(torch.float32).tiny


class Branch(nn.Module, ABC):
    """`alpha` is as files have it, where the scale is alpha / `rank`; None for what has no rank."""

    def __init__(
        self, target: LoraTarget, alpha: float | None, parts: Mapping[str, Tensor], rank: int | None = None
    ) -> None:
        super().__init__()
        self.target = target
        self.alpha = alpha
        self.scale = 1.0 if alpha is None or rank is None else alpha / rank
        self.parts = {suffix: nn.Parameter(value) for suffix, value in parts.items()}
        """By suffix in files."""
        for suffix, parameter in self.parts.items():
            self.register_parameter(suffix.replace(".", "_"), parameter)

    @property
    def strength(self) -> families.Scale:
        """What the product of the factors is multiplied with."""
        return self.scale * self.parts[SCALAR][0] if SCALAR in self.parts else self.scale

    def file_parts(self) -> dict[str, Tensor]:
        """What files hold, by suffix: a scalar is multiplied into a factor."""
        parts = {suffix: parameter.data for suffix, parameter in self.parts.items() if suffix != SCALAR}
        if SCALAR in self.parts:
            into = next(suffix for suffix in FOLDED_INTO if suffix in parts)
            parts[into] = parts[into] * self.parts[SCALAR].data
        return parts

    @abstractmethod
    def forward(self, layer: nn.Module, x: Tensor, output: Tensor, masks: Masks | None) -> Tensor:
        """What is added to the layer's `output`, before `masks` make holes in it."""


class LowRank(Branch):
    """`down` is [R, I] or [R, I, K, K], `up` [O, R] or [O, R, 1, 1]; a Tucker's `mid` is [R, R, K, K]."""

    def __init__(self, target: LoraTarget, alpha: float, parts: Mapping[str, Tensor]) -> None:
        super().__init__(target, alpha, parts, rank=parts["lora_down.weight"].shape[0])
        self.down, self.up = self.parts["lora_down.weight"], self.parts["lora_up.weight"]
        self.mid = self.parts.get("lora_mid.weight")

    def forward(self, layer: nn.Module, x: Tensor, output: Tensor, masks: Masks | None) -> Tensor:
        down = self.down.to(x.dtype)
        # Scaling the weight and not what flows: it is far smaller, and still F32 here.
        up = (self.up * self.strength).to(x.dtype)
        is_linear = self.target.kind == "linear"
        if is_linear:
            inner = functional.linear(x, down)
        elif self.mid is None:
            inner = self._convolved(x, down)
        else:
            inner = self._convolved(functional.conv2d(x, down), self.mid.to(x.dtype))
        if masks is not None:
            inner = masks.ranks(self.target.name, inner, -1 if is_linear else 1)
        return functional.linear(inner, up) if is_linear else functional.conv2d(inner, up)

    def _convolved(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional.conv2d(x, weight, stride=self.target.stride, padding=self.target.padding)

    def delta(self, like_OI: Tensor) -> Tensor:
        """ΔW in F32."""
        return families.LowRank(self.down, self.up, self.mid, self.strength).delta(like_OI)


class DoRA(LowRank):
    """`dora_scale` is [O, 1] or [O, 1, 1, 1]: the length that each row has. No gradient goes through the length of
    W + ΔW that it replaces, as its authors and PEFT have it."""

    def forward(self, layer: nn.Module, x: Tensor, output: Tensor, masks: Masks | None) -> Tensor:
        assert isinstance(layer, Layer)
        with torch.no_grad():
            norms_O = lengths_of(weight_of(layer).float() + self.delta(layer.weight), on_output=True).clamp_min(_TINY)
        growth_O = self.parts["dora_scale"].flatten() / norms_O
        axis = -1 if self.target.kind == "linear" else 1
        bare = output if layer.bias is None else output - _on_axis(layer.bias, output, axis)
        low_rank = super().forward(layer, x, output, masks)
        return bare * _on_axis(growth_O - 1, output, axis) + low_rank * _on_axis(growth_O, output, axis)


class InputDoRA(LowRank):
    """`dora_scale` is [1, I] or [1, I, 1, 1]: the length that each column has, so what flows in is scaled with it."""

    def forward(self, layer: nn.Module, x: Tensor, output: Tensor, masks: Masks | None) -> Tensor:
        assert isinstance(layer, Layer)
        with torch.no_grad():
            norms_I = lengths_of(weight_of(layer).float() + self.delta(layer.weight), on_output=False).clamp_min(_TINY)
        growth_I = self.parts["dora_scale"].flatten() / norms_I
        axis = -1 if self.target.kind == "linear" else 1
        bare = without_bias(layer, x * _on_axis(growth_I - 1, x, axis))
        return bare + super().forward(layer, x * _on_axis(growth_I, x, axis), output, masks)


def lengths_of(weight_OI: Tensor, *, on_output: bool) -> Tensor:
    """Of each row, or of each column of a weight [O, I] or [O, I, K, K]."""
    return (weight_OI if on_output else weight_OI.transpose(0, 1)).flatten(1).norm(dim=1)


class Dense(Branch):
    """ΔW as a whole, made of the parts anew in each pass."""

    def __init__(
        self,
        target: LoraTarget,
        alpha: float | None,
        parts: Mapping[str, Tensor],
        change: Callable[[Mapping[str, Tensor], families.Scale], families.Change],
        rank: int | None = None,
    ) -> None:
        super().__init__(target, alpha, parts, rank)
        self._change = change

    def change(self) -> families.Change:
        """ΔW as a formula of the parts as they are now."""
        return self._change(self.parts, self.strength)

    def forward(self, layer: nn.Module, x: Tensor, output: Tensor, masks: Masks | None) -> Tensor:
        assert isinstance(layer, Layer)
        change = self.change()
        if isinstance(change, families.LoKr | families.Full):
            added = change.beside(layer, x, 1.0)
        else:
            # Made a second time for the backward pass: what its factors multiply to is as large as the model.
            delta = checkpoint(
                lambda: change.delta(layer.weight).to(x.dtype), use_reentrant=False, preserve_rng_state=False
            )
            added = through(layer, x, delta)
        axis = -1 if self.target.kind == "linear" else 1
        if "diff_b" in self.parts:
            added = added + _on_axis(self.parts["diff_b"], added, axis)
        return added if masks is None else masks.ranks(self.target.name, added, axis)


class Norm(Branch):
    """`w_norm` and `b_norm` are [O]."""

    def forward(self, layer: nn.Module, x: Tensor, output: Tensor, masks: Masks | None) -> Tensor:
        weight, bias = (self.parts[name].to(x.dtype) for name in ("w_norm", "b_norm"))
        if isinstance(layer, nn.GroupNorm):
            return functional.group_norm(x, layer.num_groups, weight, bias, layer.eps)
        assert isinstance(layer, nn.LayerNorm)
        return functional.layer_norm(x, layer.normalized_shape, weight, bias, layer.eps)


def new_branch(target: LoraTarget, layer: nn.Module, settings: NetworkSettings, *, seed: int) -> Branch:
    """On the CPU. Beside a `layer` without data, on torch's device "meta" or fake, without data and where that is."""
    maker = _Maker(target, layer, settings, seed)
    if target.kind == "norm":
        return maker.norm()
    match settings.kind:
        case "locon" | "dora":
            return maker.low_rank()
        case "loha":
            return maker.loha()
        case "lokr":
            return maker.lokr()
        case "full":
            return maker.full()


class _Maker:
    def __init__(self, target: LoraTarget, layer: nn.Module, settings: NetworkSettings, seed: int) -> None:
        self._target, self._layer, self._settings, self._seed = target, layer, settings, seed
        weight = layer.get_parameter("weight")
        self._shape = tuple(weight.shape)
        self._is_empty = weight.is_meta or isinstance(weight, FakeTensor)
        self._device = weight.device if self._is_empty else torch.device("cpu")
        self._kernel = self._shape[2:]
        self._ones = (1,) * len(self._kernel)
        self._has_core = settings.use_tucker and target.kind == "conv3x3"

    def low_rank(self) -> LowRank:
        (out, into), (rank, alpha) = self._shape[:2], self._rank()
        parts = {
            # Called as it was when nothing else was drawn.
            "lora_down.weight": self._kaiming("down", rank, into, *(self._ones if self._has_core else self._kernel)),
            "lora_up.weight": self._at_zero(self._kaiming, "lora_up.weight", out, rank, *self._ones),
        }
        if self._has_core:
            parts["lora_mid.weight"] = self._kaiming("lora_mid.weight", rank, rank, *self._kernel)
        if self._settings.kind == "locon":
            return LowRank(self._target, alpha, self._with_scalar(parts))
        on_output = self._settings.wd_on_output
        weight = weight_of(self._layer).detach().float()
        lengths = lengths_of(weight, on_output=on_output).to(self._device)
        parts["dora_scale"] = lengths.reshape(*((out, 1) if on_output else (1, into)), *self._ones)
        kind = DoRA if on_output else InputDoRA
        return kind(self._target, alpha, self._with_scalar(parts))

    def loha(self) -> Dense:
        (out, into), (rank, alpha) = self._shape[:2], self._rank()
        columns = into * _product(self._kernel)
        pair = ((rank, out), (rank, into)) if self._has_core else ((out, rank), (rank, columns))
        parts = {
            "hada_w1_a": self._normal("hada_w1_a", *pair[0], deviation=0.1),
            "hada_w1_b": self._normal("hada_w1_b", *pair[1], deviation=1.0),
            "hada_w2_a": self._at_zero(partial(self._normal, deviation=0.1), "hada_w2_a", *pair[0]),
            "hada_w2_b": self._normal("hada_w2_b", *pair[1], deviation=1.0),
        }
        if self._has_core:
            for name in ("hada_t1", "hada_t2"):
                parts[name] = self._normal(name, rank, rank, *self._kernel, deviation=0.1)

        def change(parts: Mapping[str, Tensor], scale: families.Scale) -> families.Change:
            one, two = ((parts[f"hada_w{n}_a"], parts[f"hada_w{n}_b"], parts.get(f"hada_t{n}")) for n in ("1", "2"))
            return families.LoHa(one, two, scale)

        return Dense(self._target, alpha, self._with_scalar(parts), change, rank)

    def lokr(self) -> Dense:
        rank, alpha = self._rank()
        lokr = self._settings.lokr
        (a, b), (c, d) = (factors_of(size, lokr.factor) for size in self._shape[:2])
        if lokr.unbalanced_factorization:
            a, b = b, a
        area = _product(self._kernel)
        parts: dict[str, Tensor] = {}
        if lokr.decompose_both and not lokr.full_matrix and rank < max(a, c) / 2:
            parts["lokr_w1_a"] = self._kaiming("lokr_w1_a", a, rank)
            parts["lokr_w1_b"] = self._kaiming("lokr_w1_b", rank, c)
        else:
            parts["lokr_w1"] = self._kaiming("lokr_w1", a, c)
        if lokr.full_matrix or rank >= max(b, d) / 2:
            parts["lokr_w2"] = self._at_zero(self._kaiming, "lokr_w2", b, d, *self._kernel)
        elif self._has_core:
            parts["lokr_t2"] = self._kaiming("lokr_t2", rank, rank, *self._kernel)
            parts["lokr_w2_a"] = self._kaiming("lokr_w2_a", rank, b)
            parts["lokr_w2_b"] = self._at_zero(self._kaiming, "lokr_w2_b", rank, d)
        else:
            parts["lokr_w2_a"] = self._kaiming("lokr_w2_a", b, rank)
            parts["lokr_w2_b"] = self._at_zero(self._kaiming, "lokr_w2_b", rank, d * area)
        # Without a product there is no rank to divide by, and readers have a scale of one.
        is_whole = "lokr_w1" in parts and "lokr_w2" in parts
        alpha = float(rank) if is_whole else alpha

        def change(parts: Mapping[str, Tensor], scale: families.Scale) -> families.Change:
            first, second = (families.kronecker_factor(parts, which) for which in ("1", "2"))
            return families.LoKr(first, second, scale)

        return Dense(self._target, alpha, self._with_scalar(parts), change, rank)

    def full(self) -> Dense:
        parts = {"diff": self._zeros(*self._shape)}
        if getattr(self._layer, "bias", None) is not None:
            parts["diff_b"] = self._zeros(self._shape[0])
        return Dense(self._target, None, parts, lambda parts, _: families.Full(parts["diff"]))

    def norm(self) -> Norm:
        return Norm(self._target, None, {"w_norm": self._zeros(*self._shape), "b_norm": self._zeros(*self._shape)})

    def _with_scalar(self, parts: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return {**parts, SCALAR: self._zeros(1)} if self._settings.use_scalar else parts

    def _at_zero(self, drawn: Callable[..., Tensor], name: str, *shape: int) -> Tensor:
        """The factor that is zero in a new branch, unless there is a scalar that is."""
        return drawn(name, *shape) if self._settings.use_scalar else self._zeros(*shape)

    def _rank(self) -> tuple[int, float]:
        assert self._settings.ranks is not None
        return self._settings.ranks.of(self._target)

    def _kaiming(self, purpose: str, *shape: int) -> Tensor:
        """Uniform in ±1/√fan-in: Kaiming's with a = √5."""
        bound = _product(shape[1:]) ** -0.5
        values = self._zeros(*shape)
        return values if self._is_empty else values.uniform_(-bound, bound, generator=self._stream(purpose))

    def _normal(self, purpose: str, *shape: int, deviation: float) -> Tensor:
        values = self._zeros(*shape)
        return values if self._is_empty else values.normal_(std=deviation, generator=self._stream(purpose))

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, device=self._device)

    def _stream(self, purpose: str) -> torch.Generator:
        return module_stream(self._seed, self._target.name, purpose)


def _product(sizes: tuple[int, ...]) -> int:
    return torch.Size(sizes).numel()


def _on_axis(values_O: Tensor, like: Tensor, axis: int) -> Tensor:
    return along(values_O.to(like.dtype), like, axis=axis)
