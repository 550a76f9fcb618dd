"""Dropout of branches whose every mask has an address: the seed, the visit of the image, the module and the purpose.

So a mask does not depend on how a step is cut, on what else is trained, or on interruptions, and it is the same when
gradient checkpointing computes a layer a second time.

    dropout          each value of what a branch adds is zero with this chance; the others grow by 1 / (1 − p)
    rank_dropout     each rank of a LoRA, each output of another family, is left out for an image with this chance;
                     with `rank_dropout_scale` the others grow by one over the share that is left
    module_dropout   the whole branch is left out for an image with this chance

Shape letters: B rows of a batch, each of one image or of several in turn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lora_worker.streams import Visit


@dataclass(frozen=True)
class Dropouts:
    dropout: float = 0.0
    rank_dropout: float = 0.0
    rank_dropout_scale: bool = False
    module_dropout: float = 0.0

    @property
    def are_off(self) -> bool:
        return self.dropout == self.rank_dropout == self.module_dropout == 0


class Masks:
    """The masks of one micro-batch, by module. `visits` are those of its images."""

    def __init__(self, settings: Dropouts, seed: int, visits: Sequence[Visit], device: torch.device) -> None:
        self._settings = settings
        self._addresses = [
            repr(("lorac masks 1", seed, visit.epoch, visit.digest, visit.index, visit.repeat)) for visit in visits
        ]
        self._generator = torch.Generator(device)

    def ranks(self, name: str, inner: Tensor, axis: int) -> Tensor:
        """What flows between two factors, or out of one, without the ranks (along `axis`) that are left out."""
        chance = self._settings.rank_dropout
        if chance == 0:
            return inner
        kept_BR = self._kept(name, "rank", chance, (inner.shape[axis],), inner)
        if self._settings.rank_dropout_scale:
            kept_BR = kept_BR / kept_BR.mean(dim=1, keepdim=True).clamp_min(1 / kept_BR.shape[1])
        shape = [1] * inner.dim()
        shape[0], shape[axis] = kept_BR.shape
        return inner * kept_BR.reshape(shape).to(inner.dtype)

    def added(self, name: str, added: Tensor) -> Tensor:
        """What a branch adds to its layer's output, with holes."""
        chance = self._settings.dropout
        if chance > 0:
            kept = self._kept(name, "value", chance, tuple(added.shape[1:]), added)
            added = added * (kept / (1 - chance)).to(added.dtype)
        chance = self._settings.module_dropout
        if chance > 0:
            kept = self._kept(name, "module", chance, (1,) * (added.dim() - 1), added)
            added = added * kept.to(added.dtype)
        return added

    def _kept(self, name: str, purpose: str, chance: float, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Ones and zeros, F32 [B, *shape]."""
        rows = like.shape[0] // len(self._addresses)
        masks = [
            self._uniform(f"{address} {name} {purpose} {row}", shape, like.device) >= chance
            for address in self._addresses
            for row in range(rows)
        ]
        return torch.stack(masks).float()

    def _uniform(self, address: str, shape: tuple[int, ...], device: torch.device) -> Tensor:
        seed = int.from_bytes(hashlib.blake2b(address.encode(), digest_size=4).digest(), "little")
        return torch.rand(shape, generator=self._generator.manual_seed(seed), device=device)
