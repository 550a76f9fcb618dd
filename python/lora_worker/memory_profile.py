"""What the backward pass of one micro-batch needs to have kept, block by block, counted before anything is computed.

A model of the checkpoint's architecture runs forward on tensors that have a shape and no memory (torch's fake tensors),
with the network beside it that is trained, for one image and for two: so whatever a kind of network keeps is counted
and not described, and what grows with the images is told from what does not. Full-size SDXL takes seconds.

Shape letters: B images, N chunks, T tokens of a chunk.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from lora_worker.architecture import Architecture
from lora_worker.branches import new_branch
from lora_worker.checkpointing import TEXT, unet_blocks
from lora_worker.live_bytes import storage_key
from lora_worker.models import Models, weightless_models
from lora_worker.naming import LoraTarget
from lora_worker.network import Network
from lora_worker.network_settings import NetworkSettings

_IN_TURN = 1.9
"""What a block needs while it is computed for the second time, by what it keeps: counted at full size, 0.8 to 1 of
gradients beside the activations."""

Losses = Callable[[Models, int], Tensor]
"""The losses of so many images, with a model that may be fake."""


@dataclass(frozen=True)
class Bytes:
    """What does not grow with the images, as the cast weights of a network, and what does."""

    fixed: int
    per_image: int

    def of(self, images: int) -> int:
        return self.fixed + images * self.per_image


@dataclass(frozen=True)
class Block:
    """`kept` is what it keeps for the backward pass, `inputs` what is kept in its place when it is checkpointed, and
    `flops` what computing it again costs, for one image."""

    name: str
    kept: Bytes
    inputs: Bytes
    flops: int


@dataclass(frozen=True)
class Profile:
    """`blocks` in the order in which they run, `others` what is kept outside of them. `flops`: a forward pass of one
    image, all in all."""

    blocks: tuple[Block, ...]
    others: Bytes
    flops: int

    def peak(self, images: int, checkpointed: Collection[str]) -> int:
        """The most that a forward and a backward pass of a micro-batch need at once, gradients aside.

        Backwards, block after block is let go; what a checkpointed one would have kept is there while it is its turn,
        and nearly as much of gradients.
        """
        kept = [(block.inputs if block.name in checkpointed else block.kept).of(images) for block in self.blocks]
        live = self.others.of(images) + sum(kept)
        peak = live
        for block, held in zip(reversed(self.blocks), reversed(kept), strict=True):
            if block.name in checkpointed and block.name != TEXT:
                peak = max(peak, live - held + int(_IN_TURN * block.kept.of(images)))
            live -= held
        return peak

    def recomputed(self, checkpointed: Collection[str]) -> int:
        """What is computed a second time for one image."""
        return sum(block.flops for block in self.blocks if block.name in checkpointed)


def profile(
    architecture: Architecture,
    network: NetworkSettings,
    targets: Collection[LoraTarget],
    *,
    dtype: torch.dtype,
    device: torch.device | str,
    losses: Losses,
) -> Profile:
    """`losses` is called with a fake model that carries a new network, for one image and for two."""
    models = weightless_models(architecture, dtype)
    with FakeTensorMode(allow_non_fake_inputs=True):
        for part in (models.unet, models.text.one, models.text.two):
            part.to_empty(device=device)
        beside = Network(models, [new_branch(target, models.module_of(target), network, seed=0) for target in targets])
        beside.attach()
        one, two = (_Count(models, beside, losses, images) for images in (1, 2))
    names = [*dict.fromkeys(two.order)]
    blocks = tuple(
        Block(
            name,
            _line(one.kept[name], two.kept[name]),
            # Without a gradient nothing is held, and no block runs a second time.
            _line(one.inputs[name], two.inputs[name]) if two.kept[name] else Bytes(0, 0),
            one.flops[name] if two.kept[name] else 0,
        )
        for name in names
    )
    return Profile(blocks, _line(one.kept[None], two.kept[None]), sum(one.flops.values()))


def _line(one: int, two: int) -> Bytes:
    return Bytes(fixed=max(0, 2 * one - two), per_image=two - one)


class _Count:
    """One forward pass. Bytes and operations by the block that was running, None outside of all."""

    def __init__(self, models: Models, network: Network, losses: Losses, images: int) -> None:
        self.kept: dict[str | None, int] = defaultdict(int)
        self.inputs: dict[str | None, int] = defaultdict(int)
        self.flops: dict[str | None, int] = defaultdict(int)
        self.order: list[str] = []
        self._running: str | None = None
        parts = (models.unet, models.text.one, models.text.two)
        weights = [tensor for part in parts for tensor in (*part.parameters(), *part.buffers())]
        weights += [parameter for _, parameter in network.named_parameters()]
        self._ignored = {storage_key(weight) for weight in weights}
        # They must not be freed and their addresses be used again while it counts.
        self._saved: dict[int, Tensor] = {}
        self._entered: dict[int, Tensor] = {}
        with ExitStack() as stack:
            for name, block in (*unet_blocks(models).items(), *((TEXT, layer) for layer in _text_layers(models))):
                stack.enter_context(self._watched(name, block))
            stack.enter_context(_Flops(self))
            with saved_tensors_hooks(self._save, lambda tensor: tensor):
                made = losses(models, images)
        del made
        self._saved.clear()
        self._entered.clear()

    @contextmanager
    def _watched(self, name: str, block: nn.Module) -> Iterator[None]:
        def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._running = name
            self.order.append(name)
            for tensor in (*args, *kwargs.values()):
                if isinstance(tensor, Tensor) and storage_key(tensor) not in self._entered:
                    self._entered[storage_key(tensor)] = tensor
                    self.inputs[name] += tensor.untyped_storage().nbytes()

        def leave(*_: object) -> None:
            self._running = None

        handles = [block.register_forward_pre_hook(enter, with_kwargs=True), block.register_forward_hook(leave)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _save(self, tensor: Tensor) -> Tensor:
        key = storage_key(tensor)
        if key not in self._ignored and key not in self._saved:
            self._saved[key] = tensor
            self.kept[self._running] += tensor.untyped_storage().nbytes()
        return tensor

    def add_flops(self, flops: int) -> None:
        self.flops[self._running] += flops


class _Flops(TorchDispatchMode):
    def __init__(self, count: _Count) -> None:
        super().__init__()
        self._count = count

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        packet = operation._overloadpacket
        if packet in flop_registry:
            self._count.add_flops(flop_registry[packet](*args, **(kwargs or {}), out_val=result))
        elif "_scaled_dot_product" in packet.__name__:
            # A kernel that torch's table does not know, as the CPU's.
            self._count.add_flops(sdpa_flop_count(*(tensor.shape for tensor in args[:3])))
        return result


def _text_layers(models: Models) -> Iterator[nn.Module]:
    for encoder in (models.text.one, models.text.two):
        yield from getattr(encoder, "text_model", encoder).encoder.layers
