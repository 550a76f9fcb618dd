"""The names of one tensor in the worlds it lives in: single-file checkpoints, live modules, LoRA files.

Names come from the rules below, never from a walk over live modules: libraries rename their modules (transformers
dropped the inner `text_model` of its plain CLIP text model in 5.6), and files in the world keep the names they have.
The rules hold for every width and depth, so a toy and the published model share them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lora_worker.architecture import (
    LEVELS,
    TE1_PREFIX,
    TE2_PREFIX,
    UNET_PREFIX,
    VAE_PREFIX,
    Architecture,
    TextShape,
)
from lora_worker.unet_plan import Attention, Part, Resnet, linears_of_attention, unet_parts
from lora_worker.vae_naming import vae_module

Component = Literal["unet", "te1", "te2", "vae"]
Change = Literal["none", "transpose", "drop-kernel"]


@dataclass(frozen=True)
class Placement:
    """Where (a part of) a checkpoint's tensor goes in diffusers' and transformers' modules.

    `name` is the name in the module's state dict, for text encoders always with `text_model.`. `part` says which
    third of the rows is meant when q, k and v are stored as one. `drop-kernel` turns [O, I, 1, 1] into [O, I].
    """

    component: Component
    name: str
    part: Literal[0, 1, 2] | None = None
    change: Change = "none"


def placements(key: str) -> tuple[Placement, ...] | None:
    """Where a checkpoint's tensor goes. Empty: it is known and not needed. None: nobody knows it."""
    if key.startswith(UNET_PREFIX):
        return _one("unet", _unet_name(key[len(UNET_PREFIX) :]))
    if key.startswith(TE1_PREFIX):
        return _te1_placements(key[len(TE1_PREFIX) :])
    if key.startswith(TE2_PREFIX):
        return open_clip_placements(key[len(TE2_PREFIX) :])
    if key.startswith(VAE_PREFIX):
        return _vae_placements(key[len(VAE_PREFIX) :])
    return () if _LEFTOVERS.match(key) else None


# What trainers and merging tools leave in files, and no model reads: averaged weights, noise tables, marks.
_LEFTOVERS = re.compile(
    r"(model_ema\.|denoiser\.|alphas_|betas$|sqrt_|log_one_minus_|posterior_|logvar$|"
    r"(v_pred|ztsnr|w_schnell|global_step)$|.*\.(position_ids|logit_scale)$)"
)


def _one(component: Component, name: str | None) -> tuple[Placement, ...] | None:
    return None if name is None else (Placement(component, name),)


# The UNet

_UNET_FIXED = {
    "input_blocks.0.0": "conv_in",
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_INSIDE_ATTENTION = re.compile(
    r"norm|proj_in|proj_out|"
    r"transformer_blocks\.\d+\.(norm[123]|attn[12]\.(to_[qkv]|to_out\.0)|ff\.net\.(0\.proj|2))"
)


def _unet_name(key: str) -> str | None:
    path, _, kind = key.rpartition(".")
    module = unet_module(path) if kind in ("weight", "bias") else None
    return module and f"{module}.{kind}"


def unet_module(ldm: str, levels: int = LEVELS) -> str | None:
    """diffusers' path of a UNet module, from the checkpoint's path without prefix. None for one that is unknown."""
    if ldm in _UNET_FIXED:
        return _UNET_FIXED[ldm]
    match = re.fullmatch(r"(input_blocks|output_blocks)\.(\d+)\.(\d)\.(.+)", ldm)
    if match:
        side, block, part, leaf = match[1], int(match[2]), match[3], match[4]
        side_module = _down_module if side == "input_blocks" else _up_module
        return side_module(block, part, leaf, levels)
    match = re.fullmatch(r"middle_block\.([012])\.(.+)", ldm)
    if match:
        if match[1] == "1":
            return _attention_module("mid_block.attentions.0", match[2])
        return _resnet_module(f"mid_block.resnets.{int(match[1]) // 2}", match[2])
    return None


def _down_module(block: int, part: str, leaf: str, levels: int) -> str | None:
    level, place = divmod(block - 1, 3)
    if not 1 <= block < 3 * levels:
        return None
    if place == 2:
        return f"down_blocks.{level}.downsamplers.0.conv" if (part, leaf) == ("0", "op") else None
    if part == "0":
        return _resnet_module(f"down_blocks.{level}.resnets.{place}", leaf)
    return _attention_module(f"down_blocks.{level}.attentions.{place}", leaf) if part == "1" else None


def _up_module(block: int, part: str, leaf: str, levels: int) -> str | None:
    level, place = divmod(block, 3)
    if level >= levels:
        return None
    if part == "0":
        return _resnet_module(f"up_blocks.{level}.resnets.{place}", leaf)
    if leaf == "conv":  # `.2` behind an attention; `.1` in a level without one
        return f"up_blocks.{level}.upsamplers.0.conv" if place == 2 else None
    return _attention_module(f"up_blocks.{level}.attentions.{place}", leaf) if part == "1" else None


def _resnet_module(prefix: str, leaf: str) -> str | None:
    return f"{prefix}.{_RESNET[leaf]}" if leaf in _RESNET else None


def _attention_module(prefix: str, leaf: str) -> str | None:
    return f"{prefix}.{leaf}" if _INSIDE_ATTENTION.fullmatch(leaf) else None


_UNET_FIXED_BACK = {diffusers: ldm for ldm, diffusers in _UNET_FIXED.items()}
_RESNET_BACK = {diffusers: ldm for ldm, diffusers in _RESNET.items()}


def diffusers_module(ldm: str) -> str | None:
    """As `unet_module`, for Stable Diffusion 1 and 2 as well, which have a level more."""
    return unet_module(ldm, LEVELS + 1)


def ldm_modules(diffusers: str) -> tuple[str, ...]:
    """The checkpoint's paths that a path of diffusers' may stand for, the other way round. Empty for an unknown one.

    There are two for an upsampler, which stands behind an attention in some checkpoints and in its place in others.
    """
    if diffusers in _UNET_FIXED_BACK:
        return (_UNET_FIXED_BACK[diffusers],)
    match = re.fullmatch(r"(down|mid|up)_blocks?(?:\.(\d))?\.(\w+)\.(\d)\.(.+)", diffusers)
    if not match:
        return ()
    side, level, part, place, leaf = match[1], int(match[2] or 0), match[3], int(match[4]), match[5]
    if part == "resnets":
        leaf = _RESNET_BACK.get(leaf, leaf)
    inner = {"resnets": "0", "attentions": "1"}.get(part)
    if side == "mid":
        candidates = [f"middle_block.{1 if part == 'attentions' else 2 * place}.{leaf}"]
    elif inner:
        block = f"input_blocks.{3 * level + place + 1}" if side == "down" else f"output_blocks.{3 * level + place}"
        candidates = [f"{block}.{inner}.{leaf}"]
    elif part == "downsamplers":
        candidates = [f"input_blocks.{3 * level + 3}.0.op"]
    else:
        candidates = [f"output_blocks.{3 * level + 2}.{at}.conv" for at in (2, 1)]
    return tuple(ldm for ldm in candidates if diffusers_module(ldm) == diffusers)


# The text encoders

_CLIP = re.compile(
    r"embeddings\.(token|position)_embedding\.weight|final_layer_norm\.(weight|bias)|"
    r"encoder\.layers\.\d+\.(self_attn\.(q|k|v|out)_proj|layer_norm[12]|mlp\.fc[12])\.(weight|bias)"
)
_OPEN_CLIP_FIXED = {
    "positional_embedding": "embeddings.position_embedding.weight",
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_OPEN_CLIP_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def _te1_placements(key: str) -> tuple[Placement, ...] | None:
    # Files that a recent transformers wrote lack the inner name.
    name = key.removeprefix("text_model.")
    if name in ("embeddings.position_ids", "text_projection.weight", "logit_scale"):
        return ()
    return _one("te1", f"text_model.{name}" if _CLIP.fullmatch(name) else None)


def open_clip_placements(key: str) -> tuple[Placement, ...] | None:
    """Where a tensor of OpenCLIP's text encoder goes, by its name without prefix."""
    if key == "text_projection":  # x @ P there, and a Linear computes x @ W.T
        return (Placement("te2", "text_projection.weight", change="transpose"),)
    if key == "logit_scale":
        return ()
    if key in _OPEN_CLIP_FIXED:
        return _one("te2", f"text_model.{_OPEN_CLIP_FIXED[key]}")
    match = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)", key)
    if not match:
        return None
    layer, leaf, kind = f"text_model.encoder.layers.{match[1]}", match[2], match[3]
    if leaf == "attn.in_proj":
        return (
            Placement("te2", f"{layer}.self_attn.q_proj.{kind}", part=0),
            Placement("te2", f"{layer}.self_attn.k_proj.{kind}", part=1),
            Placement("te2", f"{layer}.self_attn.v_proj.{kind}", part=2),
        )
    return _one("te2", f"{layer}.{_OPEN_CLIP_LAYER[leaf]}.{kind}" if leaf in _OPEN_CLIP_LAYER else None)


_OPEN_CLIP_FIXED_BACK = {f"text_model.{clip}": ldm for ldm, clip in _OPEN_CLIP_FIXED.items()}
_OPEN_CLIP_LAYER_BACK = {clip: ldm for ldm, clip in _OPEN_CLIP_LAYER.items()}
_FUSED = {"q_proj", "k_proj", "v_proj"}


def open_clip_tensor(name: str) -> tuple[str, Placement] | None:
    """OpenCLIP's name for a tensor of transformers' text encoder, and how it becomes that. None: nobody knows it."""
    if name == "text_projection.weight":
        key = "text_projection"
    elif name in _OPEN_CLIP_FIXED_BACK:
        key = _OPEN_CLIP_FIXED_BACK[name]
    else:
        match = re.fullmatch(r"text_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
        if not match:
            return None
        layer, leaf, kind = f"transformer.resblocks.{match[1]}", match[2], match[3]
        is_fused = leaf.removeprefix("self_attn.") in _FUSED
        key = f"{layer}.attn.in_proj_{kind}" if is_fused else f"{layer}.{_OPEN_CLIP_LAYER_BACK.get(leaf)}.{kind}"
    placement = next((each for each in open_clip_placements(key) or () if each.name == name), None)
    return None if placement is None else (key, placement)


# The autoencoder


def _vae_placements(key: str) -> tuple[Placement, ...] | None:
    if key.startswith(("loss.", "model_ema.")):
        return ()
    path, _, kind = key.rpartition(".")
    module = vae_module(path) if kind in ("weight", "bias") else None
    if module is None:
        return None
    is_linear = ".attentions.0.to_" in module and kind == "weight"
    return (Placement("vae", f"{module}.{kind}", change="drop-kernel" if is_linear else "none"),)


# What a LoRA of preset `full` adapts


@dataclass(frozen=True)
class LoraTarget:
    """A module that gets a LoRA, with its name in LoRA files.

    `module_path` leads to the live module in diffusers' or transformers' model; `in_features` and `out_features`
    are channels for convolutions. `ldm_rows` are the rows of `ldm_key` when the checkpoint stores q, k and v as one.
    """

    name: str
    component: Literal["unet", "te1", "te2"]
    module_path: str
    kind: Literal["linear", "conv1x1", "conv3x3", "norm"]
    in_features: int
    out_features: int
    stride: int
    padding: int
    ldm_key: str
    ldm_rows: tuple[int, int] | None = None


def lora_targets(architecture: Architecture, *, te1_has_inner_model: bool = False) -> tuple[LoraTarget, ...]:
    """Every module of preset `full`, text encoders first, in the order in which the models are run.

    `te1_has_inner_model` says how the live text encoder 1 names its modules: without `text_model.` since
    transformers 5.6. Names in files are the same either way.
    """
    inner = "text_model." if te1_has_inner_model else ""
    return (
        *_text_targets("te1", architecture.te1, inner),
        *_text_targets("te2", architecture.te2, "text_model."),
        *_unet_targets(architecture),
    )


def norm_targets(architecture: Architecture) -> tuple[LoraTarget, ...]:
    """The norms between those layers of the UNet. LyCORIS' `train_norm` reaches them, and none of the text encoders."""
    return tuple(
        _unet_target(path, "norm", width, width)
        for part in unet_parts(architecture.unet)
        for path, width in _norms_of(part)
    )


def _norms_of(part: Part) -> Iterator[tuple[str, int]]:
    if isinstance(part, Resnet):
        yield f"{part.path}.in_layers.0", part.in_width
        yield f"{part.path}.out_layers.0", part.out_width
    elif isinstance(part, Attention):
        yield f"{part.path}.norm", part.width
        for index in range(part.depth):
            for norm in ("norm1", "norm2", "norm3"):
                yield f"{part.path}.transformer_blocks.{index}.{norm}", part.width


def _text_targets(component: Literal["te1", "te2"], text: TextShape, inner: str) -> Iterator[LoraTarget]:
    width, mlp = text.width, text.mlp_width
    modules = {
        "self_attn.k_proj": (width, width),
        "self_attn.v_proj": (width, width),
        "self_attn.q_proj": (width, width),
        "self_attn.out_proj": (width, width),
        "mlp.fc1": (width, mlp),
        "mlp.fc2": (mlp, width),
    }
    for layer in range(text.layers):
        for module, (in_features, out_features) in modules.items():
            path = f"encoder.layers.{layer}.{module}"
            key, rows = _text_source(component, layer, module, width)
            yield LoraTarget(
                name=f"lora_{component}_text_model_{path.replace('.', '_')}",
                component=component,
                module_path=inner + path,
                kind="linear",
                in_features=in_features,
                out_features=out_features,
                stride=1,
                padding=0,
                ldm_key=key,
                ldm_rows=rows,
            )


def _text_source(component: str, layer: int, module: str, width: int) -> tuple[str, tuple[int, int] | None]:
    if component == "te1":
        return f"{TE1_PREFIX}text_model.encoder.layers.{layer}.{module}.weight", None
    block = f"{TE2_PREFIX}transformer.resblocks.{layer}"
    fused = {"self_attn.q_proj": 0, "self_attn.k_proj": 1, "self_attn.v_proj": 2}
    if module in fused:
        first = fused[module] * width
        return f"{block}.attn.in_proj_weight", (first, first + width)
    names = {"self_attn.out_proj": "attn.out_proj", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    return f"{block}.{names[module]}.weight", None


def _unet_targets(architecture: Architecture) -> Iterator[LoraTarget]:
    unet = architecture.unet
    for part in unet_parts(unet):
        if isinstance(part, Resnet):
            yield _unet_target(f"{part.path}.in_layers.2", "conv3x3", part.in_width, part.out_width)
            yield _unet_target(f"{part.path}.emb_layers.1", "linear", unet.time_width, part.out_width)
            yield _unet_target(f"{part.path}.out_layers.3", "conv3x3", part.out_width, part.out_width)
            if part.in_width != part.out_width:
                yield _unet_target(f"{part.path}.skip_connection", "conv1x1", part.in_width, part.out_width)
        elif isinstance(part, Attention):
            for path, in_width, out_width, _ in linears_of_attention(part, unet.context_width):
                yield _unet_target(f"{part.path}.{path}", "linear", in_width, out_width)
        else:
            yield _unet_target(part.path, "conv3x3", part.width, part.width, stride=part.stride)


def _unet_target(
    path: str, kind: Literal["linear", "conv1x1", "conv3x3", "norm"], in_width: int, out_width: int, *, stride: int = 1
) -> LoraTarget:
    module = unet_module(path)
    if module is None:
        raise AssertionError(f"the UNet's plan names {path}, which the rules do not know")
    return LoraTarget(
        name=f"lora_unet_{path.replace('.', '_')}",
        component="unet",
        module_path=module,
        kind=kind,
        in_features=in_width,
        out_features=out_width,
        stride=stride,
        padding=1 if kind == "conv3x3" else 0,
        ldm_key=f"{UNET_PREFIX}{path}.weight",
    )
