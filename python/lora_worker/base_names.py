"""Which LoRA modules a tensor of a base belongs to, by the names that trainers give them.

Bases are spelled in two ways, and a UNet's modules are named after either:

    a checkpoint   model.diffusion_model.input_blocks.4.1.proj_in.weight
                   conditioner.embedders.1.model.transformer.resblocks.3.attn.in_proj_weight (q, k and v in one)
                   cond_stage_model.transformer.text_model.… (Stable Diffusion 1), cond_stage_model.model.… (2)
    diffusers      down_blocks.1.attentions.0.proj_in.weight, text_model.encoder.layers.3.self_attn.q_proj.weight,
                   behind `unet.`, `text_encoder.` or `text_encoder_2.` where one file holds several models

The rules hold for Stable Diffusion 1, 2 and XL.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from lora_worker.architecture import TE1_PREFIX, TE2_PREFIX, UNET_PREFIX
from lora_worker.naming import Placement, diffusers_module, ldm_modules, open_clip_placements

TextEncoder = Literal["te", "te1", "te2"]


@dataclass(frozen=True)
class AdaptedRows:
    """The modules that adapt a tensor, under all their names, or that adapt one third of its rows: q, k or v."""

    names: tuple[str, ...]
    third: int | None = None
    transposed: bool = False


def adapted_by(key: str, text_encoder: TextEncoder) -> Iterator[AdaptedRows]:
    """`text_encoder` is the one that names mean which do not say it: see `text_encoder_in`."""
    unet = _unet_names(key)
    if unet:
        yield AdaptedRows(unet)
        return
    for prefix, encoder in (
        (TE1_PREFIX, "te1"),
        (TE2_PREFIX, "te2"),
        ("cond_stage_model.transformer.", "te"),
        ("cond_stage_model.model.", "te"),
        ("text_encoder.", "te1"),
        ("text_encoder_2.", "te2"),
        ("", text_encoder),
    ):
        if key.startswith(prefix):
            yield from _text_names(key.removeprefix(prefix), encoder)
            return


def text_encoder_in(path: str, keys: Collection[str]) -> TextEncoder:
    """Which text encoder a file holds whose names do not say it: known by its folder, else by its projection."""
    folder = PurePath(path).parent.name
    if folder in ("text_encoder", "text_encoder_2"):
        return "te2" if folder == "text_encoder_2" else "te1"
    return "te2" if "text_projection.weight" in keys else "te1"


def _unet_names(key: str) -> tuple[str, ...]:
    """Of the module, after both paths that it has."""
    path, _, kind = key.rpartition(".")
    if kind != "weight":
        return ()
    for prefix in (UNET_PREFIX, "diffusion_model.", "unet.", ""):
        if path.startswith(prefix):
            path = path.removeprefix(prefix)
            break
    diffusers = diffusers_module(path)
    paths = (path, diffusers) if diffusers else (path, *ldm_modules(path))
    return tuple(f"lora_unet_{each.replace('.', '_')}" for each in paths) if len(paths) > 1 else ()


_TEXT_MODEL = re.compile(r"(text_model\.)?(encoder\.layers\..+|text_projection)\.weight")


def _text_names(key: str, encoder: str) -> Iterator[AdaptedRows]:
    in_diffusers = _TEXT_MODEL.fullmatch(key)
    if in_diffusers:
        module = in_diffusers[2] if in_diffusers[2] == "text_projection" else f"text_model.{in_diffusers[2]}"
        yield AdaptedRows(_spelled(module, encoder))
        return
    for placement in open_clip_placements(key) or ():
        module, _, kind = placement.name.rpartition(".")
        if kind == "weight":
            yield AdaptedRows(_spelled(module, encoder), placement.part, _is_transposed(placement))


def _is_transposed(placement: Placement) -> bool:
    return placement.change == "transpose"


def _spelled(module: str, encoder: str) -> tuple[str, ...]:
    """diffusers calls the only text encoder of Stable Diffusion 1 and 2 as it does the first of SDXL."""
    encoders = ("te1", "te") if encoder == "te1" else (encoder,)
    return tuple(f"lora_{each}_{module.replace('.', '_')}" for each in encoders)
