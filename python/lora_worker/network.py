"""A network: branches beside the layers of a model, by the names that modules have in LoRA files.

`branches` computes them; `adapters` reads finished files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lora_worker.branches import KEPT_EXACT, SCALAR, Branch, new_branch
from lora_worker.dropouts import Masks
from lora_worker.models import Models
from lora_worker.naming import LoraTarget
from lora_worker.network_settings import NetworkSettings


class Network:
    """Attached only where it says so."""

    masks: Masks | None = None
    """Those of the images that now flow through the models. None: nothing is left out."""

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
            self._handles.append(layer.register_forward_hook(self._adding(branch)))

    def remove(self) -> None:
        """The models compute as if nothing had ever been attached."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @contextmanager
    def detached(self) -> Iterator[None]:
        """Within the block the models compute without the branches."""
        self.remove()
        try:
            yield
        finally:
            self.attach()

    def parameters(self, *components: str) -> list[nn.Parameter]:
        """Those of every branch of these components ("unet", "te1", "te2"), in the order of the branches."""
        chosen = (branch for branch in self.branches.values() if branch.target.component in components)
        return [parameter for branch in chosen for parameter in branch.parts.values()]

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every parameter under its name in LoRA files."""
        for name, branch in self.branches.items():
            for suffix, parameter in branch.parts.items():
                yield f"{name}.{suffix}", parameter

    def file_tensors(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """What a file holds, where the network is, and maybe the live ones. Alphas are F32, so that scaling one scales
        the module exactly."""
        tensors: dict[str, Tensor] = {}
        for name, branch in self.branches.items():
            for suffix, value in branch.file_parts().items():
                tensors[f"{name}.{suffix}"] = value if suffix in KEPT_EXACT else value.to(dtype)
        for name, branch in self.branches.items():
            if branch.alpha is not None:
                tensors[f"{name}.alpha"] = torch.tensor(branch.alpha, dtype=torch.float32)
        return tensors

    @contextmanager
    def rounded_to(self, dtype: torch.dtype) -> Iterator[None]:
        """Within the block the branches compute with the values that a file of that dtype holds, bit for bit."""
        exact = [(parameter, parameter.data.clone()) for _, parameter in self.named_parameters()]
        try:
            for branch in self.branches.values():
                for suffix, value in branch.file_parts().items():
                    branch.parts[suffix].data.copy_(value if suffix in KEPT_EXACT else value.to(dtype))
                if SCALAR in branch.parts:
                    branch.parts[SCALAR].data.fill_(1)
            yield
        finally:
            for parameter, value in exact:
                parameter.data.copy_(value)

    def _adding(self, branch: Branch) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            masks = self.masks
            added = branch(layer, inputs[0], output, masks)
            return output + (added if masks is None else masks.added(branch.target.name, added))

        return add


def create(models: Models, targets: Iterable[LoraTarget], settings: NetworkSettings, *, seed: int) -> Network:
    """A network that changes nothing yet."""
    branches = (new_branch(target, models.module_of(target), settings, seed=seed) for target in targets)
    return Network(models, (branch.to(models.device) for branch in branches))
