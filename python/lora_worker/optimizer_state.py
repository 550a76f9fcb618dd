"""What any torch optimizer remembers, as tensors and plain JSON, and back, bit for bit.

An optimizer's memory is what it keeps of each parameter (`state`) and what it changes in its groups. torch's own
`load_state_dict` casts tensors to the parameter's dtype; here everything comes back as it was. Tensors that were on
the CPU, as AdamW's step counts are, come back there, all others on their parameter's device. Where everything was on
the CPU, those are the single numbers.

A number, text, true, false or None stands for itself; everything else is an object with one key that tells what it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lora_worker.errors import WorkerError


def save_optimizer(
    optimizer: torch.optim.Optimizer, names: Mapping[nn.Parameter, str]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by names that begin with a parameter's, and the rest. The tensors are the live ones.

    Raises `bad-input` for a memory that cannot be written down.
    """
    others = optimizer.state_dict().keys() - {"state", "param_groups"}
    if others:
        raise _unsaveable(optimizer, f"{', '.join(sorted(others))} besides its state and its groups")
    writer = _Writer(optimizer)
    state = {
        name: writer.fields(optimizer.state[parameter], name)
        for parameter, name in names.items()
        if parameter in optimizer.state
    }
    groups = [
        writer.fields({key: value for key, value in group.items() if key != "params"}, f"group.{place}")
        for place, group in enumerate(optimizer.param_groups)
    ]
    return writer.tensors, {"state": state, "groups": groups}


def restore_optimizer(
    optimizer: torch.optim.Optimizer,
    names: Mapping[nn.Parameter, str],
    tensors: Mapping[str, Tensor],
    values: Mapping[str, Any],
) -> None:
    """Gives an optimizer that was constructed in the same way the memory that `save_optimizer` told."""
    for parameter, name in names.items():
        if name in values["state"]:
            fields = values["state"][name]
            optimizer.state[parameter] = {key: _read(value, tensors, parameter.device) for key, value in fields.items()}
    for group, fields in zip(optimizer.param_groups, values["groups"], strict=True):
        device = group["params"][0].device
        group.update({key: _read(value, tensors, device) for key, value in fields.items()})


class _Writer:
    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._optimizer = optimizer
        self._on_cpu = optimizer.param_groups[0]["params"][0].device.type == "cpu"

    def fields(self, values: Mapping[str, Any], place: str) -> dict[str, Any]:
        return {key: self._written(value, f"{place}/{key}") for key, value in values.items()}

    def _written(self, value: Any, place: str) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            return {"number": str(value)}
        if value is None or type(value) in (bool, int, float, str):
            return value
        if isinstance(value, Tensor) and not value.is_sparse:
            self.tensors[place] = value.detach()
            return {"tensor": place, "cpu": value.device.type == "cpu" and (not self._on_cpu or value.dim() == 0)}
        if isinstance(value, (list, tuple)):
            items = [self._written(item, f"{place}.{index}") for index, item in enumerate(value)]
            return {"tuple" if isinstance(value, tuple) else "list": items}
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            return {"record": self.fields(value, place)}
        raise _unsaveable(self._optimizer, f'"{place}" of the type {type(value).__name__}')


def _read(value: Any, tensors: Mapping[str, Tensor], device: torch.device) -> Any:
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        # A copy: what was read from the file is not ours to change.
        return tensors[value["tensor"]].to("cpu" if value["cpu"] else device, copy=True)
    if "number" in value:
        return float(value["number"])
    if "record" in value:
        return {key: _read(item, tensors, device) for key, item in value["record"].items()}
    kind, items = next(iter(value.items()))
    return (tuple if kind == "tuple" else list)(_read(item, tensors, device) for item in items)


def _unsaveable(optimizer: torch.optim.Optimizer, what: str) -> WorkerError:
    return WorkerError(
        "bad-input",
        f"The optimizer {type(optimizer).__name__} keeps {what}, which cannot be saved: "
        "a training with it could not be gone on from.",
        "Choose another optimizer, or one of its settings that keeps numbers and tensors only.",
    )
