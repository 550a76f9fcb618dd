"""The toy base's networks, from random weights to a checkpoint by SDXL's names."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from lora_worker.architecture import TE1_PREFIX, TOKENS
from lora_worker.models import Models, load_models, load_vae
from lora_worker.naming import Placement, placements
from lora_worker.safetensors_file import write_safetensors
from lora_worker.toy.checkpoint import random_tensors, toy_architecture
from lora_worker.toy.shapes import checkpoint_shapes

# The autoencoder's first width is twice its norm groups: a group of one channel would forget how bright it was.
ARCHITECTURE = toy_architecture(
    widths=(32, 64, 128), depths=(0, 1, 2), layers=(2, 2), text_widths=(32, 64), vae=(64, 64, 64, 64)
)
METADATA = {
    "modelspec.architecture": "stable-diffusion-xl-v1-base",
    "modelspec.title": "lorac toy that draws",
}


@dataclass(frozen=True)
class Networks:
    models: Models
    vae: AutoencoderKL

    def modules(self) -> dict[str, nn.Module]:
        text = self.models.text
        return {"unet": self.models.unet, "te1": text.one, "te2": text.two, "vae": self.vae}


def random_networks() -> Networks:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.safetensors"
        write_safetensors(path, random_tensors(ARCHITECTURE), METADATA)
        return read_networks(path)


def read_networks(path: Path) -> Networks:
    """In F32, to be trained; nothing is frozen."""
    networks = Networks(
        load_models(path, device="cpu", dtype=torch.float32), load_vae(path, device="cpu", dtype=torch.float32)
    )
    for module in networks.modules().values():
        module.requires_grad_(True)
    return networks


States = Mapping[str, Mapping[str, Tensor]]
"""State dicts of the `Networks.modules`."""


def write_base(path: Path, states: States) -> None:
    """Writes one checkpoint, in fp16."""
    tensors = {key: _gathered(key, states).half() for key in checkpoint_shapes(ARCHITECTURE)}
    tensors[f"{TE1_PREFIX}text_model.embeddings.position_ids"] = torch.arange(TOKENS).reshape(1, TOKENS)
    write_safetensors(path, tensors, METADATA)


def _gathered(key: str, states: States) -> Tensor:
    """The tensor that a checkpoint has under `key`; what loading takes apart is put together again."""
    pieces = [_as_stored(_find(states[place.component], place.name), place) for place in placements(key) or ()]
    return torch.cat(pieces).reshape(checkpoint_shapes(ARCHITECTURE)[key]).contiguous()


def _find(state: Mapping[str, Tensor], name: str) -> Tensor:
    # Newer versions of transformers leave the inner name out.
    return state[name] if name in state else state[name.removeprefix("text_model.")]


def _as_stored(tensor: Tensor, place: Placement) -> Tensor:
    return tensor.detach().T if place.change == "transpose" else tensor.detach()
