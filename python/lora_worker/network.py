"""A network: a branch beside each layer that is trained, y = W x + (α/r) · up(down(x)).

The branch is computed beside the frozen layer (bypass form) and never added into its weight: a bf16 weight would
round small updates away. Its parameters are F32 and are cast to the dtype of what flows through the layer.

`adapters` reads finished files.

Shape letters: O output features, I input features, R rank, K kernel size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from lora_worker.models import Models
from lora_worker.naming import LoraTarget
from lora_worker.network_settings import NetworkSettings
from lora_worker.streams import module_stream


class Branch(nn.Module):
    """The branch of one layer. `down` is [R, I] or [R, I, K, K], `up` is [O, R] or [O, R, 1, 1]."""

    def __init__(self, target: LoraTarget, down: Tensor, up: Tensor, alpha: float) -> None:
        super().__init__()
        self.target = target
        self.alpha = alpha
        self.scale = alpha / down.shape[0]
        self.down = nn.Parameter(down)
        self.up = nn.Parameter(up)

    def forward(self, x: Tensor) -> Tensor:
        down = self.down.to(x.dtype)
        # Scaling the weight and not what flows: it is far smaller, and still F32 here.
        up = (self.up * self.scale).to(x.dtype)
        if self.target.kind == "linear":
            return functional.linear(functional.linear(x, down), up)
        inner = functional.conv2d(x, down, stride=self.target.stride, padding=self.target.padding)
        return functional.conv2d(inner, up)


class Network:
    """The branches of a model, by the names that modules have in LoRA files. Attached only where it says so."""

    def __init__(self, models: Models, branches: Iterable[Branch]) -> None:
        self.branches: dict[str, Branch] = {branch.target.name: branch for branch in branches}
        self._models = models
        self._handles: list[RemovableHandle] = []

    def attach(self) -> None:
        """From now on the models compute with the branches, until `remove`."""
        if self._handles:
            raise RuntimeError("this network is attached already")
        for branch in self.branches.values():
            layer = self._models.module_of(branch.target)
            self._handles.append(layer.register_forward_hook(_adding(branch)))

    def remove(self) -> None:
        """The models compute as if nothing had ever been attached."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def parameters(self, *components: str) -> list[nn.Parameter]:
        """Down and up of every branch of these components ("unet", "te1", "te2"), in the order of the branches."""
        chosen = (branch for branch in self.branches.values() if branch.target.component in components)
        return [parameter for branch in chosen for parameter in (branch.down, branch.up)]

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every parameter under its name in LoRA files."""
        for name, branch in self.branches.items():
            yield f"{name}.lora_down.weight", branch.down
            yield f"{name}.lora_up.weight", branch.up

    @contextmanager
    def rounded_to(self, dtype: torch.dtype) -> Iterator[None]:
        """Within the block the parameters have the values that a file of that dtype holds, bit for bit."""
        exact = [(parameter, parameter.data.clone()) for _, parameter in self.named_parameters()]
        try:
            for parameter, value in exact:
                parameter.data.copy_(value.to(dtype))
            yield
        finally:
            for parameter, value in exact:
                parameter.data.copy_(value)


def create(models: Models, targets: Iterable[LoraTarget], settings: NetworkSettings, *, seed: int) -> Network:
    """Branches that change nothing yet: up is zero, down uniform in ±1/√fan-in (Kaiming's with a = √5).

    Each down has a random stream of its own, so a module starts alike whichever others are trained.
    """
    branches = []
    device = models.device
    for target in targets:
        rank, alpha = settings.ranks.of(target)
        down_shape, up_shape = _shapes(target, rank)
        bound = down_shape[1:].numel() ** -0.5
        generator = module_stream(seed, target.name, "down")
        down = torch.empty(down_shape).uniform_(-bound, bound, generator=generator)
        branches.append(Branch(target, down.to(device), torch.zeros(up_shape, device=device), alpha))
    return Network(models, branches)


def _adding(branch: Branch) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    return lambda _layer, inputs, output: output + branch(inputs[0])


def _shapes(target: LoraTarget, rank: int) -> tuple[torch.Size, torch.Size]:
    """Of down and up."""
    inner = {"linear": (), "conv1x1": (1, 1), "conv3x3": (3, 3)}[target.kind]
    outer = () if target.kind == "linear" else (1, 1)
    return torch.Size((rank, target.in_features, *inner)), torch.Size((target.out_features, rank, *outer))
