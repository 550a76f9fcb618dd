"""An optimizer's step when memory may run out in the middle of it.

What it remembers is allocated in the first step that it does, which is undone and tried once more. In a later one only
temporaries can fail; where nothing was changed until then, it is tried once more as well. Otherwise the error stands:
parameters of half a step are of no use, and the newest state is from before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from lora_worker.device_memory import is_out_of_memory, let_go
from lora_worker.pinned import host_copy


class OptimizerStep:
    def __init__(self, optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter]) -> None:
        self._optimizer = optimizer
        self._parameters = parameters
        self._is_first = True

    def __call__(self) -> None:
        undo = self._undo_all() if self._is_first else self._undo_untouched()
        try:
            self._optimizer.step()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or not undo():
                raise
        else:
            self._is_first = False
            return
        # Outside of the handler: while the exception is alive, so are the tensors that it passed.
        let_go(self._parameters[0].device)
        self._optimizer.step()
        self._is_first = False

    def _undo_all(self) -> Callable[[], bool]:
        """From copies that are made once in a training, of a GPU's in the host's memory."""
        values = [_copy(parameter.data) for parameter in self._parameters]
        state = {parameter: tree_map(_copy, fields) for parameter, fields in self._optimizer.state.items()}
        groups = [tree_map(_clone, _without_params(group)) for group in self._optimizer.param_groups]
        devices = {id(kept): tensor.device for kept, tensor in self._pairs(state)}

        def undo() -> bool:
            with torch.no_grad():
                for parameter, value in zip(self._parameters, values, strict=True):
                    parameter.copy_(value)
            self._optimizer.state.clear()
            let_go(self._parameters[0].device)
            for parameter, fields in state.items():
                self._optimizer.state[parameter] = tree_map(lambda kept: _back(kept, devices), fields)
            for group, before in zip(self._optimizer.param_groups, groups, strict=True):
                group.update(before)
            return True

        return undo

    def _undo_untouched(self) -> Callable[[], bool]:
        """Only numbers are put back. Every change of a tensor raises its version."""
        state = {parameter: dict(fields) for parameter, fields in self._optimizer.state.items()}
        groups = [_without_params(group) for group in self._optimizer.param_groups]
        tensors = [leaf for leaf in tree_leaves([self._parameters, [*state.values()], groups]) if _is_tensor(leaf)]
        versions = [tensor._version for tensor in tensors]

        def undo() -> bool:
            if versions != [tensor._version for tensor in tensors]:
                return False
            self._optimizer.state.clear()
            self._optimizer.state.update(state)
            for group, before in zip(self._optimizer.param_groups, groups, strict=True):
                group.update(before)
            return True

        return undo

    def _pairs(self, state: Mapping[nn.Parameter, Any]) -> list[tuple[Tensor, Tensor]]:
        pairs = [
            (kept, tensor)
            for parameter, fields in state.items()
            for kept, tensor in zip(tree_leaves(fields), tree_leaves(self._optimizer.state[parameter]), strict=True)
        ]
        return [(kept, tensor) for kept, tensor in pairs if _is_tensor(tensor)]


def _copy(value: Any) -> Any:
    """From a GPU without waiting for it: into pinned memory of the host, behind what it does already."""
    if not _is_tensor(value):
        return value
    if not value.is_cuda:
        return value.detach().clone()
    return host_copy(value)


def _clone(value: Any) -> Any:
    return value.detach().clone() if _is_tensor(value) else value


def _back(value: Any, devices: Mapping[int, torch.device]) -> Any:
    return value.to(devices[id(value)], copy=True) if _is_tensor(value) else value


def _without_params(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "params"}


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)
