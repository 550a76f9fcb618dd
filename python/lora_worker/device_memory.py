"""How much memory the device has, and how much of it a training may take."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch

T = TypeVar("T")


@dataclass(frozen=True)
class Room:
    """In bytes: what this process may still take besides what its tensors have, and what the device has in all."""

    free: int
    total: int


def has_own_memory(device: torch.device) -> bool:
    """Whether what is on it takes none of the host's: not so on a CPU, and not on Apple's GPUs."""
    return device.type not in ("cpu", "mps")


def room(device: torch.device, limit: int | None = None) -> Room | None:
    """`limit` is what all tensors of the process may take together, 0 or more bytes. None where nobody can tell.

    On a CPU there is none but the limit: its memory is shared with everything, and a step that depended on what happens
    to be free would not be the same twice.
    """
    found = _room(device)
    if limit is None:
        return found
    left = max(0, limit - allocated(device))
    return Room(left if found is None else min(left, found.free), limit if found is None else min(limit, found.total))


def allocated(device: torch.device) -> int:
    """What tensors have now. 0 on a CPU, where nobody counts."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return torch.mps.current_allocated_memory() if device.type == "mps" else 0


def let_go(device: torch.device) -> None:
    """Gives back what the allocator holds without a tensor in it, after dropping what nobody refers to any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def first_that_fits(device: torch.device, *ways: Callable[[], T]) -> T:
    """Of ways to compute the same, each with less memory than those before. Raises what the last one raises."""
    for way in ways[:-1]:
        try:
            return way()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside of the handler: while the exception is alive, so are the tensors that it passed.
        let_go(device)
    return ways[-1]()


def is_out_of_memory(error: BaseException) -> bool:
    """The CPU's allocator and Apple's have no exception type of their own; their texts are all there is."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error) if isinstance(error, RuntimeError) else ""
    return "DefaultCPUAllocator" in text or text.startswith("MPS backend out of memory")


def available() -> int | None:
    """Of the computer's own memory, in bytes. None where nobody can tell."""
    try:
        with open("/proc/meminfo") as file:
            found = {line.split(":")[0]: line.split()[1] for line in file}
        return int(found["MemAvailable"]) * 1024
    except (OSError, KeyError, IndexError, ValueError):
        return None


@contextmanager
def limited(device: torch.device, limit: int | None) -> Iterator[None]:
    """Within the block the device gives this process no more than `limit` bytes, so that others have the rest."""
    if limit is None or device.type != "cuda":
        yield
        return
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit / torch.cuda.mem_get_info(device)[1]), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def _room(device: torch.device) -> Room | None:
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        # The allocator's own is free as well.
        return Room(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device), total)
    if device.type == "mps":
        total = torch.mps.recommended_max_memory()
        return Room(max(0, total - torch.mps.driver_allocated_memory()), total)
    return None
