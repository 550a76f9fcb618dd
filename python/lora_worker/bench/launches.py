"""How many kernels a GPU is asked to run for one optimizer step: each costs the host microseconds, however small.

On a CUDA device they are counted by its profiler. Elsewhere they are worked out from what the optimizer calls: an
operation on a list of tensors, which torch counts as one, runs as many kernels as `_CHUNKS` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

# From torch's aten/src/ATen/native/cuda/MultiTensorApply.cuh: a kernel takes so many tensors, by how many lists the
# operation reads and writes, and so many chunks of so many numbers. Builds for CUDA 13 take seven times as much.
_TENSORS = {1: 110, 2: 64, 3: 48, 4: 36, 5: 30}
_CHUNKS = 320
_CHUNK_NUMBERS = 65536
# From Shape.cu beside it: what a kernel of cat and stack joins.
_JOINED = 128

_LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx")


@dataclass(frozen=True)
class Launches:
    """`kernels` were counted by the device, or worked out from the operations."""

    operations: int
    kernels: int
    are_counted: bool


class _Calls(TorchDispatchMode):
    """What is asked of the device. Views and allocations ask nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.kernels = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = function.overloadpacket.__name__
        if not function.is_view and not name.startswith("empty"):
            self.operations += 1
            self.kernels += _kernels(name, args)
        return function(*args, **(kwargs or {}))


def count_launches(step: Callable[[], object], device: torch.device) -> Launches:
    """Of the second step: in the first, an optimizer makes its memory."""
    step()
    with _Calls() as calls:
        step()
    if device.type != "cuda":
        return Launches(calls.operations, calls.kernels, are_counted=False)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        step()
        torch.cuda.synchronize()
    return Launches(calls.operations, launches_of(profiler), are_counted=True)


def launches_of(profiler: profile) -> int:
    """Kernels that a CUDA device was asked to run while it was profiled."""
    return sum(event.count for event in profiler.key_averages() if event.key in _LAUNCHES)


def _kernels(name: str, args: Sequence[Any]) -> int:
    lists = [arg for arg in args if isinstance(arg, list | tuple) and arg and isinstance(arg[0], Tensor)]
    if name in ("cat", "stack"):
        return -(-len(lists[0]) // _JOINED)
    if not name.startswith("_foreach") or not lists:
        return 1
    # One that does not change its tensors writes them into a list of its own.
    depth = len(lists) + (not name.endswith("_"))
    return _in_chunks([tensor.numel() for tensor in lists[0]], _TENSORS[depth])


def _in_chunks(sizes: Sequence[int], most_tensors: int) -> int:
    """Kernels for tensors of these sizes. A tensor that does not fit into one goes on in the next."""
    kernels = tensors = chunks = 0
    for size in sizes:
        tensors += 1
        left = -(-size // _CHUNK_NUMBERS)
        while left:
            taken = min(left, _CHUNKS - chunks)
            left, chunks = left - taken, chunks + taken
            if chunks == _CHUNKS or (tensors == most_tensors and not left):
                kernels, chunks, tensors = kernels + 1, 0, int(left > 0)
    return kernels + (chunks > 0)


@torch.no_grad()
def one_by_one(parameters: Sequence[Tensor], memory: dict[Tensor, tuple[Tensor, Tensor]], step: int) -> None:
    """SAVEUS with the guide's arguments as a loop over parameters, from the formulas at the top of
    `lora_worker.saveus`: what the steps are counted against."""
    beta1, beta2, eps, rate = 0.9, 0.999, 1e-8, 3e-4
    for parameter in parameters:
        assert parameter.grad is not None
        ema, ema_squared = memory.setdefault(parameter, (torch.zeros_like(parameter), torch.zeros_like(parameter)))
        rows = tuple(range(1, parameter.dim()))
        gradient = parameter.grad.clone()
        gradient.sub_(gradient.mean(dim=rows, keepdim=True).mul_(0.5))
        gradient.div_(gradient.std(dim=rows, keepdim=True).add_(1e-8))
        ema.mul_(beta1).add_(gradient, alpha=1 - beta1)
        gradient.add_(ema, alpha=2)
        ema_squared.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        denominator = ema_squared.sqrt().div_((1 - beta2**step) ** 0.5).add_(eps)
        parameter.addcdiv_(gradient, denominator, value=-rate / (1 - beta1**step))
