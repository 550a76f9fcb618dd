"""Schedules of learning rates by the name of a class, as sd-scripts' `--lr_scheduler_type` has them.

Unlike those of `lora_worker.schedules` they are no functions of the step: the class holds what it needs, and changes
the optimizer's groups. So they are advanced once per step, saved with each state, and rehearsed before the first step.
"""

from __future__ import annotations

import importlib
import inspect
import math
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from lora_worker.errors import bad_input
from lora_worker.optimizers import OptimizerSettings, build_optimizer, plain_arguments
from lora_worker.protocol import Fields

# Longer trainings are rehearsed up to here: a few seconds.
_MOST_REHEARSED = 100_000


@dataclass(frozen=True)
class ClassSchedule:
    """`path` is where the class is imported from, `arguments` what it is constructed with besides the optimizer."""

    path: str
    arguments: Mapping[str, Any]

    @staticmethod
    def parse(fields: Fields) -> ClassSchedule:
        """Raises ProtocolError."""
        return ClassSchedule(fields.text("class"), plain_arguments(fields))


def schedule_class(settings: ClassSchedule) -> type[LRScheduler]:
    """Raises `bad-input` when there is no such class here, or it is no schedule of steps."""
    module, _, name = settings.path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except ImportError as error:
        hint = f"Install the package into the worker's Python, or choose another schedule. Python says: {error}"
        message = f'The Python module "{module}", which the schedule {name} is in, cannot be imported.'
        raise bad_input(message, hint=hint) from error
    except AttributeError:
        raise bad_input(f'The Python module "{module}" has no "{name}" to change rates with.') from None
    if not (isinstance(found, type) and issubclass(found, LRScheduler)):
        raise bad_input(
            f'"{settings.path}" is not a class of schedules: torch.optim.lr_scheduler.LRScheduler is none of its bases.'
        )
    needed = [each for each in list(inspect.signature(found.step).parameters.values())[1:] if _is_needed(each)]
    if needed:
        raise bad_input(
            f"{settings.path} wants to be told {needed[0].name} at each step, and rates here follow from steps alone.",
            hint="Choose another schedule.",
        )
    return found


def _is_needed(parameter: inspect.Parameter) -> bool:
    return parameter.default is inspect.Parameter.empty and parameter.kind in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    )


class RunningSchedule:
    """Changes the rates of an optimizer's groups, from those that they have now."""

    def __init__(self, settings: ClassSchedule, optimizer: torch.optim.Optimizer) -> None:
        """Raises `bad-input` when the class refuses its arguments."""
        self._path = settings.path
        self._optimizer = optimizer
        cls = schedule_class(settings)
        try:
            self._scheduler = cls(optimizer, **settings.arguments)
        except Exception as error:
            message = f"{settings.path} does not take these settings: {error}"
            raise bad_input(message, hint="Look at the arguments of its constructor.") from error

    def advance(self, *, done: int) -> None:
        """To be called when so many steps are done. Raises `bad-input` where the class cannot go on."""
        try:
            # A step that was skipped did not step the optimizer, which torch warns of.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._scheduler.step()
        except Exception as error:
            raise bad_input(f"{self._path} cannot go on after step {done}: {error}") from error

    def check(self, *, step: int) -> None:
        """Whether the rates of that step, from 1, are rates. Raises `bad-input`."""
        for group in self._optimizer.param_groups:
            if not (math.isfinite(group["lr"]) and group["lr"] >= 0):
                raise bad_input(
                    f"{self._path} gives step {step} the rate {group['lr']:g}, which is none.",
                    hint="Look at its arguments, and at how many steps the training has.",
                )

    def state(self) -> dict[str, Any]:
        """Plain JSON. Raises `bad-input` for what cannot be written down."""
        return {name: self._written(value, name) for name, value in self._scheduler.state_dict().items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """The rates themselves are the optimizer's memory."""
        self._scheduler.load_state_dict({name: _read(value) for name, value in state.items()})

    def _written(self, value: Any, place: str) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            return {"number": str(value)}
        if value is None or type(value) in (bool, int, float, str):
            return value
        if isinstance(value, (list, tuple)):
            items = [self._written(item, f"{place}.{index}") for index, item in enumerate(value)]
            return {"tuple" if isinstance(value, tuple) else "list": items}
        if isinstance(value, dict) and all(type(key) in (int, str) for key in value):
            pairs = [[key, self._written(item, f"{place}.{key}")] for key, item in value.items()]
            return {"counter" if isinstance(value, Counter) else "pairs": pairs}
        raise bad_input(
            f'The schedule {self._path} keeps "{place}" of the type {type(value).__name__}, which cannot be saved: '
            "a training with it could not be gone on from.",
            hint="Choose another schedule, or one of its settings that keeps numbers only.",
        )


def _read(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    kind, told = next(iter(value.items()))
    if kind == "number":
        return float(told)
    if kind in ("pairs", "counter"):
        pairs = {key: _read(item) for key, item in told}
        return Counter(pairs) if kind == "counter" else pairs
    return (tuple if kind == "tuple" else list)(_read(item) for item in told)


def rehearse(
    schedule: ClassSchedule, settings: OptimizerSettings, optimizer: torch.optim.Optimizer, *, lr: float, steps: int
) -> None:
    """Goes through all steps with groups like the optimizer's, so that what fails does so before the first one.
    `lr` is what the optimizer was constructed with besides them.

    Raises `bad-input`.
    """
    groups = [
        {"params": [torch.nn.Parameter(torch.zeros(1))], "name": group["name"], "lr": group["lr"]}
        for group in optimizer.param_groups
    ]
    running = RunningSchedule(schedule, build_optimizer(settings, groups, lr))
    running.state()
    for step in range(1, min(steps, _MOST_REHEARSED) + 1):
        running.check(step=step)
        running.advance(done=step)
