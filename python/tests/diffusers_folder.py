"""A single-file checkpoint taken apart into a diffusers folder, as diffusers saves one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lora_worker.folder_checkpoint import ModelFolder
from lora_worker.models import load_models, load_vae
from lora_worker.naming import placements
from lora_worker.safetensors_file import read_safetensors, write_safetensors

PARTS = {"unet": "unet", "te1": "text_encoder", "te2": "text_encoder_2", "vae": "vae"}


def tensors_by_part(checkpoint: Path) -> dict[str, dict[str, torch.Tensor]]:
    """In the names that transformers 4 and its likes write, which most folders have."""
    parts: dict[str, dict[str, torch.Tensor]] = {part: {} for part in PARTS.values()}
    for key, tensor in read_safetensors(checkpoint)[0].items():
        for place in placements(key) or ():
            piece = tensor if place.part is None else tensor.chunk(3)[place.part]
            piece = piece.T if place.change == "transpose" else piece
            piece = piece[..., 0, 0] if place.change == "drop-kernel" else piece
            parts[PARTS[place.component]][place.name] = piece.contiguous()
    return parts


def write_folder(
    folder: Path,
    parts: Mapping[str, Mapping[str, torch.Tensor]],
    *,
    variant: str = "",
    shards: int = 1,
    scheduler: Mapping[str, Any] | None = None,
) -> ModelFolder:
    """Files of one part each, or of the first so many tensors, the next …; `variant` is `.fp16`."""
    files: dict[str, tuple[str, ...]] = {}
    for part, tensors in parts.items():
        stem = "model" if part.startswith("text_encoder") else "diffusion_pytorch_model"
        names = [list(tensors)[index::shards] for index in range(shards)]
        (folder / part).mkdir(parents=True)
        paths = []
        for index, mine in enumerate(names):
            number = "" if shards == 1 else f"-{index + 1:05d}-of-{shards:05d}"
            paths.append(folder / part / f"{stem}{variant}{number}.safetensors")
            write_safetensors(paths[-1], {name: tensors[name] for name in mine})
        files[part] = tuple(map(str, paths))
    config = None
    if scheduler is not None:
        config = folder / "scheduler" / "scheduler_config.json"
        config.parent.mkdir()
        config.write_text(json.dumps(scheduler))
    return ModelFolder(**files, scheduler=None if config is None else str(config))


def saved_by_diffusers(checkpoint: Path, folder: Path) -> ModelFolder:
    """Written by the libraries' own `save_pretrained`."""
    models = load_models(checkpoint, device="cpu", dtype=torch.float32)
    networks = {
        "unet": models.unet,
        "text_encoder": models.text.one,
        "text_encoder_2": models.text.two,
        "vae": load_vae(checkpoint, device="cpu", dtype=torch.float32),
    }
    files = {}
    for part, network in networks.items():
        network.save_pretrained(folder / part)
        files[part] = tuple(map(str, sorted((folder / part).glob("*.safetensors"))))
    return ModelFolder(**files, scheduler=None)


def as_request(folder: ModelFolder) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(folder).items()}
