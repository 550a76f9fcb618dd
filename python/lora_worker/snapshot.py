"""Tensors as they are now, copied into the host's memory while the device goes on.

A GPU is kept no longer than the copy takes: it is ordered behind what was ordered before, into memory that the GPU
reaches by itself, and only who reads the copy waits for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lora_worker.pinned import host_copy

# So much more of the device's memory is needed meanwhile, or as much as the largest tensor takes.
_PIECE_BYTES = 2**26


@dataclass(frozen=True)
class Snapshot:
    """Copies on the host, some of them still on their way."""

    _tensors: Mapping[str, Tensor]
    _copied: tuple[torch.cuda.Event, ...]

    def tensors(self) -> Mapping[str, Tensor]:
        """Waits until the copy is there."""
        for event in self._copied:
            event.synchronize()
        return self._tensors


def snapshot(tensors: Mapping[str, Tensor]) -> Snapshot:
    """Whatever becomes of `tensors`, the snapshot stays."""
    copies: dict[str, Tensor] = {}
    for names in _pieces(tensors):
        # Thousands of small tensors in one copy.
        flat = torch.cat([tensors[name].detach().reshape(-1) for name in names])
        flat = host_copy(flat) if flat.is_cuda else flat.cpu()
        parts = flat.split([tensors[name].numel() for name in names])
        copies |= {name: part.view(tensors[name].shape) for name, part in zip(names, parts, strict=True)}
    events = []
    for device in {tensor.device for tensor in tensors.values() if tensor.is_cuda}:
        with torch.cuda.device(device):
            events.append(torch.cuda.Event())
            events[-1].record()
    return Snapshot({name: copies[name] for name in tensors}, tuple(events))


def size_of(tensors: Mapping[str, Tensor]) -> int:
    """In bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _pieces(tensors: Mapping[str, Tensor]) -> Iterator[list[str]]:
    """Names of tensors of one kind that are copied together."""
    kinds: dict[tuple[torch.device, torch.dtype], list[str]] = {}
    for name, tensor in tensors.items():
        kinds.setdefault((tensor.device, tensor.dtype), []).append(name)
    for names in kinds.values():
        piece: list[str] = []
        size = 0
        for name in names:
            more = tensors[name].numel() * tensors[name].element_size()
            if piece and size + more > _PIECE_BYTES:
                yield piece
                piece, size = [], 0
            piece.append(name)
            size += more
        yield piece
