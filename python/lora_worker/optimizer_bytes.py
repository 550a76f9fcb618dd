"""What an optimizer remembers of parameters, found out on one of each shape.

What it needs besides while it steps is not counted: by then no activations are there any more, and where it is too
much after all, the step is done again (`optimizer_step`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from lora_worker.errors import WorkerError
from lora_worker.optimizers import OptimizerSettings, build_optimizer


def optimizer_bytes(settings: OptimizerSettings, parameters: Sequence[nn.Parameter]) -> int:
    """Whatever the class: Adafactor keeps rows and columns, Lion one moment. Single numbers are not counted."""
    shapes = Counter(tuple(parameter.shape) for parameter in parameters)
    with torch.random.fork_rng(devices=[]):
        return sum(count * _bytes_of(settings, shape) for shape, count in shapes.items())


def _bytes_of(settings: OptimizerSettings, shape: tuple[int, ...]) -> int:
    alone = nn.Parameter(torch.zeros(shape))
    alone.grad = torch.full(shape, 1e-3)
    try:
        optimizer = build_optimizer(settings, [{"params": [alone], "lr": 1e-3}], 1e-3)
        optimizer.step()
    except (RuntimeError, TypeError, ValueError, AssertionError, WorkerError):
        # A class that only works on a GPU, or with all parameters: as if it kept two moments.
        return 2 * alone.untyped_storage().nbytes()
    kept = [leaf for leaf in tree_leaves([*optimizer.state.values()]) if isinstance(leaf, Tensor) and leaf.dim()]
    return sum(tensor.untyped_storage().nbytes() for tensor in kept)
