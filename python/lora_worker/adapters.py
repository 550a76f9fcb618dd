"""A finished LoRA file of any family, put on the models for a while.

- A change of a layer is computed beside it, y = W x + w · ΔW x, and never added to the weight: a bf16 weight would
  round small updates away.
- What is no sum beside a layer (norms, IA³, DoRA) exchanges the parameter, and puts back the very same one.
- Weights can be changed as often as one likes without the file being read again. At weight 0 nothing is computed.
- After `remove` the models compute what they did before, bit for bit.

The file is in its canonical form: kohya's names, and an `alpha` where a LoRA has another scale than one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lora_worker.adapter_targets import modules_by_name
from lora_worker.blocks import block_weight
from lora_worker.errors import WorkerError, bad_input
from lora_worker.families import Change, Layer, Misfit, Parts, Scaling, change_of, decomposed, family_of
from lora_worker.fp8 import FP8, weight_of
from lora_worker.models import Models
from lora_worker.safetensors_file import SafetensorsReader

_NORMS = (nn.LayerNorm, nn.GroupNorm)


class Effect(ABC):
    """What a file does to one module. Does nothing until it has a weight."""

    @abstractmethod
    def weigh(self, weight: float) -> None:
        """From now on ΔW counts that many times."""

    @abstractmethod
    def remove(self) -> None:
        """The module is as it was. May be called twice."""


class Beside(Effect):
    """ΔW as one more layer, and a change of the bias. Either may be missing."""

    def __init__(self, layer: Layer, change: Change | None, bias_O: Tensor | None) -> None:
        self._layer = layer
        self._change = change
        self._bias_O = bias_O
        self._weight = 0.0
        self._handle: RemovableHandle | None = None

    def weigh(self, weight: float) -> None:
        self._weight = weight
        if weight == 0:
            self.remove()
        elif self._handle is None:
            self._handle = self._layer.register_forward_hook(self._add)

    def remove(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _add(self, _layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if self._change is not None:
            output = output + self._change.beside(self._layer, inputs[0], self._weight)
        if self._bias_O is not None:
            bias_O = (self._bias_O * self._weight).to(output.dtype)
            output = output + (bias_O if isinstance(self._layer, nn.Linear) else bias_O[:, None, None])
        return output


class InPlace(Effect):
    """Parameters that are exchanged. `changed` gives them for a weight, in F32, by name."""

    def __init__(self, module: nn.Module, changed: Callable[[float], Mapping[str, Tensor]]) -> None:
        self._module = module
        self._changed = changed
        self._weight = 0.0
        self._originals: dict[str, nn.Parameter] = {}

    def weigh(self, weight: float) -> None:
        if weight == self._weight:
            return
        self.remove()
        if weight == 0:
            return
        for name, value in self._changed(weight).items():
            original = self._module.get_parameter(name)
            self._originals[name] = original
            # A weight in fp8 has a factor for each row, which this one has in it.
            dtype = self._module.get_buffer("scale").dtype if original.dtype == FP8 else original.dtype
            setattr(self._module, name, nn.Parameter(value.to(dtype), requires_grad=False))
        self._weight = weight

    def remove(self) -> None:
        for name, original in self._originals.items():
            setattr(self._module, name, original)
        self._originals.clear()
        self._weight = 0.0


class AttachedLora:
    """The effects of one file, by the names of modules. Without any until it is weighed."""

    def __init__(self, effects: Mapping[str, tuple[Effect, ...]]) -> None:
        self._effects = effects
        self._weights: dict[str, float] = {}

    @torch.no_grad()
    def weigh(self, strength: float, blocks: Mapping[str, float] | None) -> None:
        """From now on ΔW counts `strength` times the weight of its block (None: all blocks have 1)."""
        for name, effects in self._effects.items():
            weight = strength * block_weight(name, blocks)
            self._weights[name] = weight
            for effect in effects:
                effect.weigh(weight)

    def text_weights(self) -> frozenset[tuple[str, float]]:
        """What decides how captions are encoded. Empty: as by the bare models."""
        return frozenset(
            (name, weight) for name, weight in self._weights.items() if weight != 0 and name.startswith("lora_te")
        )

    def remove(self) -> None:
        """The models compute as if nothing had ever been attached."""
        for effects in self._effects.values():
            for effect in effects:
                effect.remove()
        self._weights.clear()


@contextmanager
def applied(
    models: Models,
    path: str | PathLike[str],
    *,
    strength: float = 1.0,
    blocks: Mapping[str, float] | None = None,
) -> Iterator[AttachedLora]:
    """Within the block the models compute with the file of that path. Raises `bad-input`, naming the module."""
    attached = read_adapters(models, path)
    try:
        attached.weigh(strength, blocks)
        yield attached
    finally:
        attached.remove()


def read_adapters(models: Models, path: str | PathLike[str]) -> AttachedLora:
    """All of a file, with no weight yet."""
    modules = modules_by_name(models)
    with SafetensorsReader(path) as reader:
        parts = _parts_by_module(reader.header.tensors)
        _refuse_strangers(reader.path, parts.keys() - modules.keys())
        effects = {
            name: tuple(_effects(_Source(reader, name, found, models.device), modules[name]))
            for name, found in parts.items()
        }
    return AttachedLora(effects)


def _parts_by_module(tensors: Iterable[str]) -> dict[str, set[str]]:
    modules: dict[str, set[str]] = {}
    for name in sorted(tensors):
        module, _, part = name.partition(".")
        modules.setdefault(module, set()).add(part)
    return modules


def _refuse_strangers(path: str, strangers: set[str]) -> None:
    if not strangers:
        return
    shown = sorted(strangers)[:3]
    more = f" and {len(strangers) - len(shown)} more" if len(strangers) > len(shown) else ""
    raise bad_input(
        f'"{path}" has modules that this checkpoint does not have: {", ".join(map(_quoted, shown))}{more}.',
        hint="It was made for another kind of model, or holds more than a LoRA; `lorac inspect` shows what.",
    )


@dataclass(frozen=True)
class _Source:
    """One module of a file."""

    reader: SafetensorsReader
    name: str
    parts: set[str]
    device: torch.device

    def tensors(self) -> Parts:
        return {part: self.reader.tensor(f"{self.name}.{part}").to(self.device) for part in sorted(self.parts)}

    def refuse(self, reason: str) -> WorkerError:
        return bad_input(f'The module "{self.name}" of "{self.reader.path}" {reason}.')


def _effects(source: _Source, module: nn.Module) -> Iterator[Effect]:
    family = family_of(source.parts)
    if family in ("OFT", "unknown"):
        what = "is an OFT or BOFT" if family == "OFT" else f"is of no family that can be rendered: {_listed(source)}"
        raise source.refuse(f"{what}, and pictures can be made of LoRA, LoHa, LoKr, GLoRA, full, norm and IA3")
    if isinstance(module, _NORMS):
        if family not in ("norm", "full"):
            raise source.refuse(f"is a {family}, and this checkpoint has a norm there")
        yield _norm(source, module)
        return
    if family == "norm" or not isinstance(module, nn.Linear | nn.Conv2d):
        raise source.refuse("has tensors of a norm, and this checkpoint has a layer there")
    parts = source.tensors()
    try:
        change = change_of(family, parts, module.weight.shape, _alpha(source, parts))
    except Misfit as misfit:
        raise source.refuse(str(misfit)) from None
    bias_O = _vector(source, parts, "diff_b", module.weight.shape[0])
    if "dora_scale" in parts:
        if change is None:
            raise source.refuse('has "dora_scale" and nothing that it could belong to')
        yield _decomposed(source, module, change, parts["dora_scale"])
        change = None
    elif isinstance(change, Scaling):
        yield InPlace(module, _added(module, change))
        change = None
    if change is not None or bias_O is not None:
        yield Beside(module, change, bias_O)


def _norm(source: _Source, module: nn.Module) -> InPlace:
    parts = source.tensors()
    width = module.get_parameter("weight").shape[0]
    diffs = {
        name: _vector(source, parts, part, width)
        for name, part in (("weight", "w_norm"), ("bias", "b_norm"), ("weight", "diff"), ("bias", "diff_b"))
        if part in parts
    }
    return InPlace(
        module,
        lambda weight: {
            name: module.get_parameter(name).float() + weight * diff for name, diff in diffs.items() if diff is not None
        },
    )


def _added(layer: Layer, change: Change) -> Callable[[float], Mapping[str, Tensor]]:
    def changed(weight: float) -> Mapping[str, Tensor]:
        base_OI = weight_of(layer).float()
        return {"weight": base_OI + weight * change.delta(base_OI)}

    return changed


def _decomposed(source: _Source, layer: Layer, change: Change, scale: Tensor) -> InPlace:
    """DoRA: W + w · (W' − W). The shape of `dora_scale` says whether rows or columns have a magnitude."""
    out_features, in_features = layer.weight.shape[:2]
    on_output = scale.numel() == out_features == scale.shape[0]
    if not on_output and (scale.numel() != in_features or scale.dim() < 2 or scale.shape[1] != in_features):
        raise source.refuse(
            f'has "dora_scale" of shape {list(scale.shape)}, and this checkpoint needs {[out_features, 1]} '
            f"or {[1, in_features]}"
        )
    magnitude = scale.float()

    def changed(weight: float) -> Mapping[str, Tensor]:
        base_OI = weight_of(layer).float()
        whole_OI = decomposed(base_OI, change.delta(base_OI), magnitude, on_output=on_output)
        return {"weight": base_OI + weight * (whole_OI - base_OI)}

    return InPlace(layer, changed)


def _alpha(source: _Source, parts: Parts) -> float | None:
    if "alpha" not in parts:
        return None
    if parts["alpha"].numel() != 1 or not math.isfinite(parts["alpha"].item()):
        raise source.refuse('has an "alpha" that is not one finite number')
    return float(parts["alpha"].item())


def _vector(source: _Source, parts: Parts, name: str, width: int) -> Tensor | None:
    """None where the file has none of that name."""
    if name not in parts:
        return None
    if parts[name].numel() != width:
        raise source.refuse(f'has "{name}" of shape {list(parts[name].shape)}, and this checkpoint needs {[width]}')
    return parts[name].float().flatten()


def _listed(source: _Source) -> str:
    return ", ".join(map(_quoted, sorted(source.parts)[:6]))


def _quoted(name: str) -> str:
    return f'"{name}"'
