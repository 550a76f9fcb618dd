"""What one SAVEUS step costs on a LoRA of SDXL, with its parameters in batches and one by one.

    OMP_WAIT_POLICY=passive PYTHONPATH=python python bench/saveus.py

The shapes are those of the guide's network without its 3x3 convolutions, so that it runs in seconds. A CPU is bound by
memory, so there the two cost about the same; a GPU pays for every operator call.
"""

from __future__ import annotations

import json
import time

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lora_worker import saveus
from lora_worker.saveus import SAVEUS

SHAPES = [(8, 640), (640, 8), (8, 1280), (1280, 8), (8, 2048), (8, 5120), (10240, 8), (8, 768), (768, 8), (3072, 8)]
OF_EACH = 60
ROUNDS = 7


class Calls(TorchDispatchMode):
    """Counts what a step asks of the device. A foreach is one call; views are none."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += not function.is_view
        return function(*args, **(kwargs or {}))


def measure(largest_batch: int) -> tuple[float, int]:
    """Seconds of a step, the median of a few rounds after one to warm up; and its operator calls."""
    saveus._LARGEST_BATCH = largest_batch
    generator = torch.Generator().manual_seed(0)
    parameters = [torch.zeros(shape).requires_grad_() for shape in SHAPES for _ in range(OF_EACH)]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer = SAVEUS(parameters)
    rounds = []
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        optimizer.step()
        rounds.append(time.perf_counter() - start)
    with Calls() as calls:
        optimizer.step()
    return sorted(rounds[1:])[ROUNDS // 2], calls.count


sizes = {"batched": saveus._LARGEST_BATCH, "one by one": 1}
# In turns, so that a busy machine disturbs both.
found = [(name, *measure(size)) for _ in range(3) for name, size in sizes.items()]
results = {
    name: {
        "ms": round(1e3 * min(seconds for other, seconds, _ in found if other == name), 1),
        "calls": next(calls for other, _, calls in found if other == name),
    }
    for name in sizes
}
print(json.dumps({"parameters": len(SHAPES) * OF_EACH, "threads": torch.get_num_threads(), **results}))
