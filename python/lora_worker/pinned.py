"""Pinned memory of the host, from and into which a GPU copies by itself, while the host and the GPU go on.

Systems give only so much of it, WSL least of all. Where there is no more, ordinary memory does as well: then whoever
orders a copy waits for it.
"""

from __future__ import annotations

import torch
from torch import Tensor


def host_copy(tensor: Tensor) -> Tensor:
    """Of a tensor as it is now, whatever becomes of it. Of a GPU's, it is there once an event has passed that is
    recorded behind it."""
    return _room_for(tensor).copy_(tensor.detach(), non_blocking=True)


def pinned(tensor: Tensor) -> Tensor:
    """The host's tensor in such memory, if there is some."""
    try:
        return tensor.pin_memory()
    except RuntimeError:
        return tensor


def _room_for(tensor: Tensor) -> Tensor:
    try:
        return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    except RuntimeError:
        return torch.empty(tensor.shape, dtype=tensor.dtype)
