"""LoRAs for a toy checkpoint, of random weights: something to shrink, chop, merge and look at without a training.

The bytes follow from the arguments alone. Each LoRA does most in one block of the UNet and a little everywhere else,
and each direction of a module is weaker than the one before it, as in LoRAs that were trained.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Literal

import torch
from torch import Tensor

from lora_worker.naming import LoraTarget, lora_targets
from lora_worker.safetensors_file import write_safetensors
from lora_worker.toy.checkpoint import SIZES

Names = Literal["kohya", "peft"]

# ‖ΔW‖ relative to ‖W‖, roughly.
_IN_ITS_BLOCK = 1.5
_ELSEWHERE = 0.02
# Each direction relative to the one before it.
_DECAY = 0.6


@dataclass(frozen=True)
class ToyLora:
    """`strong`: the block of the UNet that the LoRA is about, as checkpoints name it: `output_blocks.1`.

    With the names of `peft` only attention in the UNet is adapted, and no scale is written, as diffusers' own training
    script does it.
    """

    size: str = "quickstart"
    names: Names = "kohya"
    rank: int = 8
    seed: int = 1
    strong: str = "output_blocks.1"


def write_toy_lora(path: str | PathLike[str], lora: ToyLora) -> None:
    """Writes a LoRA in fp16. Twice the same call, twice the same bytes."""
    tensors: dict[str, Tensor] = {}
    for target in _targets(lora):
        up_OR, down_RI = _factors(target, lora)
        if lora.names == "peft":
            name = _peft_name(target)
            tensors |= {f"{name}.lora_A.weight": down_RI, f"{name}.lora_B.weight": up_OR}
        else:
            tensors |= {
                f"{target.name}.alpha": torch.tensor(float(lora.rank)),
                f"{target.name}.lora_down.weight": down_RI,
                f"{target.name}.lora_up.weight": up_OR,
            }
    metadata = {} if lora.names == "peft" else {"ss_base_model_version": "sdxl_base_v1-0"}
    write_safetensors(path, tensors, metadata)


def _targets(lora: ToyLora) -> Iterator[LoraTarget]:
    for target in lora_targets(SIZES[lora.size], te1_has_inner_model=True):
        if lora.names == "kohya" or (target.component == "unet" and ".attn" in target.module_path):
            yield target


def _factors(target: LoraTarget, lora: ToyLora) -> tuple[Tensor, Tensor]:
    """Up and down, in the shapes that the module's kind asks for."""
    digest = hashlib.sha256(f"{lora.seed} {target.name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:6], "little"))
    kernel = {"linear": (), "conv1x1": (1, 1), "conv3x3": (3, 3)}[target.kind]
    down = torch.randn(lora.rank, target.in_features, *kernel, generator=generator)
    down /= down[0].numel() ** 0.5
    is_strong = f".{lora.strong}." in f".{target.ldm_key}"
    weights_R = (_IN_ITS_BLOCK if is_strong else _ELSEWHERE) * _DECAY ** torch.arange(lora.rank)
    up_OR = torch.randn(target.out_features, lora.rank, generator=generator) * weights_R
    up = up_OR if target.kind == "linear" else up_OR[:, :, None, None]
    return up.half(), down.half()


def _peft_name(target: LoraTarget) -> str:
    component = {"unet": "unet", "te1": "text_encoder", "te2": "text_encoder_2"}[target.component]
    return f"{component}.{target.module_path}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lora_worker.toy.lora", description="Writes a toy LoRA.")
    parser.add_argument("output", help="the file to write")
    parser.add_argument("--size", choices=sorted(SIZES), default=ToyLora.size, help="of the checkpoint it is for")
    parser.add_argument("--names", choices=("kohya", "peft"), default=ToyLora.names)
    parser.add_argument("--rank", type=int, default=ToyLora.rank)
    parser.add_argument("--seed", type=int, default=ToyLora.seed)
    parser.add_argument("--strong", default=ToyLora.strong, metavar="BLOCK")
    arguments = vars(parser.parse_args())
    output = arguments.pop("output")
    os.makedirs(os.path.dirname(output) or ".", exist_ok=True)
    write_toy_lora(output, ToyLora(**arguments))


if __name__ == "__main__":
    main()
