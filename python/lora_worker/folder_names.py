"""What a single-file checkpoint calls the tensors of a diffusers folder: `naming.placements`, the other way round.

    unet/             down_blocks.1.attentions.0.norm.weight  model.diffusion_model.input_blocks.4.1.norm.weight
    text_encoder/     text_model.encoder.layers.0.mlp.fc1.weight       conditioner.embedders.0.transformer.text_model.…
    text_encoder_2/   text_model.encoder.layers.0.self_attn.k_proj.…   the second third of …resblocks.0.attn.in_proj_…
    vae/              decoder.up_blocks.0.resnets.1.conv1.bias         first_stage_model.decoder.up.3.block.1.conv1.bias

src/runtime/sdxl/folder-names.ts holds the same rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from lora_worker.architecture import TE1_PREFIX, TE2_PREFIX, UNET_PREFIX, VAE_PREFIX
from lora_worker.naming import Change, ldm_modules, open_clip_tensor, unet_module
from lora_worker.vae_naming import ldm_vae_module

Part = Literal["unet", "text_encoder", "text_encoder_2", "vae"]


@dataclass(frozen=True)
class CheckpointTensor:
    """`third` says which third of the rows the folder's tensor is; `change` is what the checkpoint's went through."""

    key: str
    third: Literal[0, 1, 2] | None = None
    change: Change = "none"


def checkpoint_tensor(part: Part, name: str, names: Collection[str]) -> CheckpointTensor | None:
    """`names` are all of the part's tensors. None: SDXL has no such tensor."""
    return _RULES[part](name, names)


def is_needless(part: Part, name: str) -> bool:
    """Left by old versions of transformers, and read by none."""
    is_text = part in ("text_encoder", "text_encoder_2")
    return is_text and re.fullmatch(r"(text_model\.)?(embeddings\.position_ids|logit_scale)", name) is not None


def _unet_tensor(name: str, names: Collection[str]) -> CheckpointTensor | None:
    path, _, kind = name.rpartition(".")
    found = [ldm for ldm in ldm_modules(path) if unet_module(ldm) == path]
    if not found or kind not in ("weight", "bias"):
        return None
    # An upsampler stands behind the attention of its level, where there is one.
    level = path.partition(".upsamplers.")[0]
    is_behind = any(other.startswith(f"{level}.attentions.") for other in names)
    return CheckpointTensor(f"{UNET_PREFIX}{found[0] if is_behind else found[-1]}.{kind}")


def _first_text_tensor(name: str, _: Collection[str]) -> CheckpointTensor | None:
    return CheckpointTensor(TE1_PREFIX + name)


def _second_text_tensor(name: str, _: Collection[str]) -> CheckpointTensor | None:
    found = open_clip_tensor(name)
    if found is None:
        return None
    key, placement = found
    return CheckpointTensor(TE2_PREFIX + key, placement.part, placement.change)


def _vae_tensor(name: str, _: Collection[str]) -> CheckpointTensor | None:
    path, _dot, kind = name.rpartition(".")
    module = ldm_vae_module(path)
    if module is None or kind not in ("weight", "bias"):
        return None
    is_linear = kind == "weight" and re.search(r"\.attn_1\.(q|k|v|proj_out)$", module) is not None
    return CheckpointTensor(f"{VAE_PREFIX}{module}.{kind}", change="drop-kernel" if is_linear else "none")


_RULES: dict[Part, Callable[[str, Collection[str]], CheckpointTensor | None]] = {
    "unet": _unet_tensor,
    "text_encoder": _first_text_tensor,
    "text_encoder_2": _second_text_tensor,
    "vae": _vae_tensor,
}
