"""How learning rates change over a training: factors of the base rate, by optimizer step.

They are sd-scripts' schedulers, which are those of transformers and diffusers. Every one but those that are named by
their class (`class_schedules`) is a function of the step alone, so there is no state to save. With T steps in all, w of
them warm-up, the factor of step s (0-based) is s/w in the warm-up, and behind it depends on the progress
p = (s − w)/(T − w).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lora_worker.class_schedules import ClassSchedule
from lora_worker.protocol import Fields, ProtocolError


@dataclass(frozen=True)
class Constant:
    """The base rate throughout."""


@dataclass(frozen=True)
class ConstantWithWarmup:
    warmup: float


@dataclass(frozen=True)
class Linear:
    """Falls evenly to 0: 1 − p."""

    warmup: float


@dataclass(frozen=True)
class Cosine:
    """`num_cycles` waves over the whole training: 0.5 ends at 0, the guide's 0.375 stops earlier, at 0.146."""

    num_cycles: float
    warmup: float = 0


@dataclass(frozen=True)
class CosineWithRestarts:
    """`num_cycles` half waves, each from the full rate to 0."""

    num_cycles: int
    warmup: float


@dataclass(frozen=True)
class Polynomial:
    """(1 − p)^power of the way from the base rate to `lr_end`, which is a rate and no factor."""

    power: float
    lr_end: float
    warmup: float


@dataclass(frozen=True)
class InverseSqrt:
    """1/√((s − w + timescale)/timescale). `timescale` None is the warm-up, or 10,000 steps where there is none."""

    timescale: int | None
    warmup: float


@dataclass(frozen=True)
class CosineWithMinLr:
    """`Cosine`, scaled into [min_lr_ratio, 1]."""

    min_lr_ratio: float
    num_cycles: float
    warmup: float


@dataclass(frozen=True)
class WarmupStableDecay:
    """The full rate between a warm-up from, and in the last `decay` steps a way down to, `min_lr_ratio`."""

    decay: float
    decay_type: str
    warmup_type: str
    min_lr_ratio: float
    num_cycles: float
    warmup: float


@dataclass(frozen=True)
class PiecewiseConstant:
    """`rules` as diffusers writes them, "1:10,0.1:20,0.01": factor 1 before step 10, 0.1 before 20, then 0.01."""

    step_rules: str


@dataclass(frozen=True)
class RelativeStep:
    """What Adafactor takes where nobody tells it a rate (Shazeer and Stern 2018, section 8; transformers' `Adafactor`):
    min(m, 1/√i) in step i = s + 1, with m = 1e-2, or 1e-6·i where it warms up. Base rates are factors of that."""

    warmup_init: bool


Schedule = (
    Constant
    | ConstantWithWarmup
    | Linear
    | Cosine
    | CosineWithRestarts
    | Polynomial
    | InverseSqrt
    | CosineWithMinLr
    | WarmupStableDecay
    | PiecewiseConstant
    | RelativeStep
    | ClassSchedule
)

_SHAPES = ("linear", "cosine", "1-sqrt")
_NAMES: Mapping[type, str] = {
    Constant: "constant",
    ConstantWithWarmup: "constant_with_warmup",
    Linear: "linear",
    Cosine: "cosine",
    CosineWithRestarts: "cosine_with_restarts",
    Polynomial: "polynomial",
    InverseSqrt: "inverse_sqrt",
    CosineWithMinLr: "cosine_with_min_lr",
    WarmupStableDecay: "warmup_stable_decay",
    PiecewiseConstant: "piecewise_constant",
    RelativeStep: "adafactor",
    ClassSchedule: "python",
}


def parse_schedule(fields: Fields) -> Schedule:
    """Raises ProtocolError."""
    kind = fields.one_of("kind", tuple(_NAMES.values()))
    if kind == "constant":
        return Constant()
    if kind == "piecewise_constant":
        return _parse_piecewise(fields)
    if kind == "adafactor":
        return RelativeStep(fields.flag("warmup_init"))
    if kind == "python":
        return ClassSchedule.parse(fields)
    warmup = _steps_or_share(fields, "warmup")
    if kind == "constant_with_warmup":
        return ConstantWithWarmup(warmup)
    if kind == "linear":
        return Linear(warmup)
    if kind == "cosine":
        return Cosine(fields.number("num_cycles"), warmup)
    if kind == "cosine_with_restarts":
        return CosineWithRestarts(fields.whole("num_cycles"), warmup)
    if kind == "polynomial":
        return Polynomial(fields.number("power"), fields.number("lr_end"), warmup)
    if kind == "inverse_sqrt":
        return InverseSqrt(fields.whole("timescale") if "timescale" in fields.raw else None, warmup)
    if kind == "cosine_with_min_lr":
        return CosineWithMinLr(fields.number("min_lr_ratio"), fields.number("num_cycles"), warmup)
    return WarmupStableDecay(
        decay=_steps_or_share(fields, "decay"),
        decay_type=fields.one_of("decay_type", _SHAPES),
        warmup_type=fields.one_of("warmup_type", _SHAPES),
        min_lr_ratio=fields.number("min_lr_ratio"),
        num_cycles=fields.number("num_cycles"),
        warmup=warmup,
    )


def rate_factor(schedule: Schedule, step: int, total: int, base_lr: float) -> float:
    """The factor for the step with this 0-based index, of `total` steps, of a group whose rate is `base_lr`.

    Not for a `ClassSchedule`, which is no function of the step.
    """
    if isinstance(schedule, ClassSchedule):
        raise TypeError(f"{schedule.path} is no function of the step")
    if isinstance(schedule, Constant):
        return 1.0
    if isinstance(schedule, PiecewiseConstant):
        return _piecewise(schedule.step_rules, step)
    if isinstance(schedule, RelativeStep):
        return min(1e-6 * (step + 1) if schedule.warmup_init else 1e-2, 1.0 / math.sqrt(step + 1))
    warmup = warmup_steps(schedule, total)
    if isinstance(schedule, WarmupStableDecay):
        return _warmup_stable_decay(schedule, step, total, warmup)
    if step < warmup:
        return step / warmup
    if isinstance(schedule, ConstantWithWarmup):
        return 1.0
    progress = (step - warmup) / max(1, total - warmup)
    if isinstance(schedule, Linear):
        return max(0.0, 1.0 - progress)
    if isinstance(schedule, Cosine):
        return max(0.0, _wave(schedule.num_cycles * progress))
    if isinstance(schedule, CosineWithRestarts):
        return 0.0 if progress >= 1 else max(0.0, _wave(0.5 * ((schedule.num_cycles * progress) % 1.0)))
    if isinstance(schedule, Polynomial):
        left = max(0.0, 1.0 - progress) ** schedule.power
        return ((base_lr - schedule.lr_end) * left + schedule.lr_end) / base_lr
    if isinstance(schedule, InverseSqrt):
        timescale = schedule.timescale or warmup or 10_000
        return 1.0 / math.sqrt((step - warmup + timescale) / timescale)
    return max(0.0, _above(schedule.min_lr_ratio, _wave(schedule.num_cycles * progress)))


def warmup_steps(schedule: Schedule, total: int) -> int:
    return _count(getattr(schedule, "warmup", 0), total)


def describe(schedule: Schedule) -> tuple[str, dict[str, Any]]:
    """Its name, that of its class where it has one, and its arguments besides the warm-up."""
    if isinstance(schedule, ClassSchedule):
        return schedule.path, dict(schedule.arguments)
    arguments = {name: value for name, value in asdict(schedule).items() if name != "warmup" and value is not None}
    return _NAMES[type(schedule)], arguments


def _wave(cycles: float) -> float:
    return 0.5 * (1.0 + math.cos(2.0 * math.pi * cycles))


def _above(least: float, factor: float) -> float:
    return factor * (1.0 - least) + least


def _warmup_stable_decay(schedule: WarmupStableDecay, step: int, total: int, warmup: int) -> float:
    if step < warmup:
        return _above(schedule.min_lr_ratio, _rise(schedule.warmup_type, step / warmup))
    decay = _count(schedule.decay, total)
    first = total - decay
    if step < first:
        return 1.0
    if step >= total:
        return schedule.min_lr_ratio
    return max(0.0, _above(schedule.min_lr_ratio, _fall(schedule, (step - first) / decay)))


def _rise(shape: str, progress: float) -> float:
    if shape == "linear":
        return progress
    if shape == "cosine":
        return 1.0 - _wave(0.5 * progress)
    return 1.0 - math.sqrt(1.0 - progress)


def _fall(schedule: WarmupStableDecay, progress: float) -> float:
    if schedule.decay_type == "linear":
        return 1.0 - progress
    if schedule.decay_type == "cosine":
        return _wave(schedule.num_cycles * progress)
    return 1.0 - math.sqrt(progress)


def _piecewise(rules: str, step: int) -> float:
    *pieces, last = rules.split(",")
    for piece in pieces:
        factor, _, until = piece.partition(":")
        if step < int(until):
            return float(factor)
    return float(last)


def _parse_piecewise(fields: Fields) -> PiecewiseConstant:
    rules = fields.text("step_rules")
    try:
        _piecewise(rules, 2**62)
    except ValueError:
        raise ProtocolError(f'"{fields.where}.step_rules" must be like "1:10,0.1", and is "{rules}"') from None
    return PiecewiseConstant(rules)


def _steps_or_share(fields: Fields, name: str) -> float:
    number = fields.number(name)
    if number < 0 or (number >= 1 and not number.is_integer()):
        raise ProtocolError(f'"{fields.where}.{name}" must be a number of steps or a share below 1, and is {number}')
    return number


def _count(steps_or_share: float, total: int) -> int:
    """As sd-scripts counts: a share is cut to whole steps."""
    return int(steps_or_share * total) if steps_or_share < 1 else int(steps_or_share)
