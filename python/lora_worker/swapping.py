"""Frozen weights of transformer blocks that wait in the host's memory, and are on the device where they are needed.

    forward    the block that is entered, and the next one on its way
    backward   the same the other way round, and when a checkpoint computes a block a second time

So at most two of these blocks take memory on the device at a time. The copies run beside the computing, in a stream of
their own. Nothing else changes: the tensors stay the same objects, whose storage is emptied and filled, so that views
which autograd keeps for the backward pass see the weights again. Weights are never written back, since they are frozen.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lora_worker.device_memory import has_own_memory
from lora_worker.models import Models
from lora_worker.pinned import host_copy
from lora_worker.transformer_blocks import swapped_blocks


class Lane(ABC):
    """How copies get to the device. `fill` may return before they are there; `wait` makes later work wait for them."""

    device: torch.device | None = None
    """Where blocks compute. None: where they are."""

    @abstractmethod
    def host_copy(self, tensor: Tensor) -> Tensor:
        """Where a weight waits."""

    @abstractmethod
    def fill(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> object:
        """Copies into each (device tensor, host copy), whose storage is there already. What `wait` takes."""

    @abstractmethod
    def wait(self, ticket: object) -> None: ...


class AtOnce(Lane):
    """Where host and device are one, as in tests."""

    def host_copy(self, tensor: Tensor) -> Tensor:
        return tensor.clone()

    def fill(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> object:
        for tensor, host in pairs:
            tensor.copy_(host)
        return None

    def wait(self, ticket: object) -> None:
        pass


class CudaLane(Lane):
    """A stream beside the one that computes, fed from pinned memory.

    Storage is taken and given back in the computing stream, in whose order the allocator reuses it: the copy waits for
    what was queued before its storage was taken, and nobody computes with it or gives it back before it is done.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)

    def host_copy(self, tensor: Tensor) -> Tensor:
        return host_copy(tensor)

    def fill(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> object:
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for tensor, host in pairs:
                tensor.copy_(host, non_blocking=True)
            return self._stream.record_event()

    def wait(self, ticket: object) -> None:
        assert isinstance(ticket, torch.cuda.Event)
        torch.cuda.current_stream().wait_event(ticket)


@dataclass
class _Block:
    module: nn.Module
    pairs: list[tuple[Tensor, Tensor]]
    """Device tensor and host copy."""
    ticket: object = None
    is_here: bool = False

    @property
    def size(self) -> int:
        return sum(host.untyped_storage().nbytes() for _, host in self.pairs)


class Swapping:
    """Of some blocks, in the order in which they compute. Begins when it is made, and ends with `restore` or `stop`."""

    def __init__(self, blocks: Iterable[nn.Module], lane: Lane) -> None:
        self._lane = lane
        self._blocks = [_waiting(block, lane) for block in blocks]
        self._current: int | None = None
        self.late = 0
        """How often a block was needed that was not on its way."""
        self.most_resident = 0
        """Bytes on the device at once, so far."""
        self._handles: list[RemovableHandle] = []
        for index, block in enumerate(self._blocks):
            self._handles.append(block.module.register_forward_pre_hook(self._entering(index, is_backward=False)))
            self._handles.append(block.module.register_full_backward_pre_hook(self._entering(index, is_backward=True)))

    @property
    def count(self) -> int:
        return len(self._blocks)

    @property
    def host_bytes(self) -> int:
        return sum(block.size for block in self._blocks)

    def begin(self) -> None:
        """Brings those that compute first, if none is here, so that who counts memory sees what will be taken."""
        if not any(block.is_here for block in self._blocks):
            self._enter(0, self._after(0, is_backward=False))

    def stop(self) -> None:
        """No block is brought any more. For models that nobody will use."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def restore(self) -> None:
        """All weights are on the device, as before."""
        self.stop()
        for block in self._blocks:
            self._bring(block)
            self._lane.wait(block.ticket)

    def _entering(self, index: int, *, is_backward: bool) -> Callable[..., None]:
        def enter(*_: object) -> None:
            # A checkpoint enters a block twice in the backward pass.
            if index != self._current:
                self._enter(index, self._after(index, is_backward=is_backward))

        return enter

    def _after(self, index: int, *, is_backward: bool) -> int:
        """Which block comes next. The last one of a pass forward is the first one of the pass back."""
        last = len(self._blocks) - 1
        if is_backward:
            return index - 1 if index > 0 else min(1, last)
        if index < last:
            return index + 1
        return max(last - 1, 0) if torch.is_grad_enabled() else 0

    @torch.no_grad()
    def _enter(self, index: int, after: int) -> None:
        # Where this breaks off for want of memory, no block counts as entered, and the next try brings it anew.
        self._current = None
        for other, block in enumerate(self._blocks):
            if block.is_here and other not in (index, after):
                # Where it was brought for nothing, the copy has to be over before its place is taken.
                self._lane.wait(block.ticket)
                _empty(block)
        if not self._blocks[index].is_here:
            self.late += 1
            self._bring(self._blocks[index])
        self._lane.wait(self._blocks[index].ticket)
        self._bring(self._blocks[after])
        self.most_resident = max(self.most_resident, sum(block.size for block in self._blocks if block.is_here))
        self._current = index

    def _bring(self, block: _Block) -> None:
        if block.is_here:
            return
        for tensor, host in block.pairs:
            tensor.untyped_storage().resize_(host.untyped_storage().nbytes())
        # `data`: the version of a tensor that autograd keeps is not to change.
        block.ticket = self._lane.fill([(tensor.data, host) for tensor, host in block.pairs])
        block.is_here = True


def swap(models: Models, count: int) -> Swapping | None:
    """From now on that many transformer blocks of the UNet wait in the host's memory, where they may have been loaded.
    None where that is the device's."""
    if count == 0 or not has_own_memory(models.device):
        return None
    return Swapping(swapped_blocks(models.unet, count), CudaLane(models.device))


def _waiting(module: nn.Module, lane: Lane) -> _Block:
    """Its weights are with the host alone, wherever they were."""
    for tensor in _tensors(module):
        if tensor.untyped_storage().nbytes() != tensor.numel() * tensor.dtype.itemsize:
            # A view of something larger, which would be emptied with it.
            tensor.data = tensor.data.clone()
    copies = [lane.host_copy(tensor.detach()) for tensor in _tensors(module)]
    if lane.device is not None:
        # Where it was loaded on the host, its tensors get to where they compute, without what they hold.
        module.to_empty(device=lane.device)
    block = _Block(module, list(zip(_tensors(module), copies, strict=True)))
    _empty(block)
    return block


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _empty(block: _Block) -> None:
    for tensor, _ in block.pairs:
        tensor.untyped_storage().resize_(0)
    block.is_here = False
    block.ticket = None
