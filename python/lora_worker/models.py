"""SDXL's networks, built from a checkpoint's architecture and filled from its tensors.

Strict: every tensor of the file is used or known to be needless, and every weight of a network is filled; otherwise
the error names the tensor. Everything comes back frozen and in evaluation mode. Networks are made without memory of
their own and take the tensors as they are read. So while they are loaded, the device never has more than what stays
there, and besides one tensor as the file has it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPTextModelWithProjection

from lora_worker import fp8
from lora_worker.architecture import (
    LATENT_CHANNELS,
    NORM_GROUPS,
    SIZE_VALUES,
    TOKENS,
    VAE_SCALE,
    Architecture,
    Shape,
    TextShape,
    VaeShape,
    heads,
    read_vae_shape,
)
from lora_worker.device_memory import has_own_memory
from lora_worker.errors import bad_input
from lora_worker.fp8 import Fp8Base
from lora_worker.naming import Component, LoraTarget, Placement, lora_targets, placements
from lora_worker.open_base import BaseFiles, OpenBase, open_autoencoder, open_base
from lora_worker.text import BEGIN, END, TextEncoders
from lora_worker.transformer_blocks import swapped_blocks

Size = tuple[int, int]
"""Width, height."""


# So many numbers become fp8 at once: on their way each is there in fp32, several times.
_PIECE = 2**21


@dataclass(frozen=True)
class Models:
    architecture: Architecture
    unet: UNet2DConditionModel
    text: TextEncoders
    rounding: fp8.Error = field(default_factory=fp8.Error)
    """Of the weights that are stored in fp8."""

    @property
    def fp8_error(self) -> float:
        """How far the weights that are stored in fp8 are off, ‖Ŵ − W‖ / ‖W‖. Waits for the device."""
        return self.rounding.relative()

    # Of the first weight that there is. diffusers' own properties say the same and walk through all modules first, for
    # 5 ms that each of a thousand branches and every pass of a picture would wait.

    @property
    def device(self) -> torch.device:
        return self.unet.conv_in.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.conv_in.weight.dtype

    def targets(self) -> tuple[LoraTarget, ...]:
        """What a LoRA of preset `full` adapts, with the paths that these live modules have."""
        return lora_targets(self.architecture, te1_has_inner_model=hasattr(self.text.one, "text_model"))

    def module_of(self, target: LoraTarget) -> nn.Module:
        roots: dict[str, nn.Module] = {"unet": self.unet, "te1": self.text.one, "te2": self.text.two}
        return roots[target.component].get_submodule(target.module_path)

    def predict(
        self, latents_BCHW: Tensor, timesteps_B: Tensor, context_BTW: Tensor, pooled_BP: Tensor, sizes_B6: Tensor
    ) -> Tensor:
        """The UNet's output [B, 4, H, W] for noisy latents. `sizes` are rows of `size_embedding_inputs`."""
        return self.unet(
            latents_BCHW,
            timesteps_B,
            encoder_hidden_states=context_BTW,
            added_cond_kwargs={"text_embeds": pooled_BP, "time_ids": sizes_B6},
            return_dict=False,
        )[0]


def size_embedding_inputs(original: Size, crop: Size, target: Size) -> tuple[int, int, int, int, int, int]:
    """SDXL's six numbers, heights first. `crop` is (left, top); all else is (width, height), in pixels."""
    return (original[1], original[0], crop[1], crop[0], target[1], target[0])


def load_models(
    base: BaseFiles,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    fp8_base: Fp8Base = "off",
    blocks_to_swap: int = 0,
) -> Models:
    """The UNet and both text encoders of a checkpoint. Transformer blocks that are going to be swapped stay in the
    host's memory from the beginning, if the device has one of its own. Raises `bad-input`."""
    device = torch.device(device)
    with open_base(base) as checkpoint:
        models = networks_of(checkpoint.architecture, fp8_base)
        one, two = models.text.one, models.text.two
        place = _Filler(checkpoint, device, dtype)
        waiting = swapped_blocks(models.unet, blocks_to_swap) if has_own_memory(device) else []
        place.fill("unet", models.unet, waiting=waiting)
        place.fill("te1", one, inner_model=hasattr(one, "text_model"))
        place.fill("te2", two)
    for model in (one, two.text_model):
        embeddings = getattr(model, "text_model", model).embeddings
        embeddings.position_ids = torch.arange(TOKENS, device=device).expand(1, -1)
    return replace(models, rounding=place.rounding)


def networks_of(architecture: Architecture, fp8_base: Fp8Base = "off") -> Models:
    """Without memory: their tensors have shapes and nothing else."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**_unet_config(architecture))
        one = CLIPTextModel(_text_config(architecture.te1, "quick_gelu", architecture.te1.width))
        two = CLIPTextModelWithProjection(_text_config(architecture.te2, "gelu", architecture.pooled_width))
    # What leads in and out, embeddings, norms and the text projection are small, and their errors would be everywhere.
    if fp8_base != "off":
        for part in (unet.down_blocks, unet.mid_block, unet.up_blocks):
            fp8.make_room(part)
    if fp8_base == "on":
        for encoder in (getattr(one, "text_model", one).encoder, two.text_model.encoder):
            fp8.make_room(encoder)
    return Models(architecture, unet, TextEncoders(one, two))


def weightless_models(architecture: Architecture, dtype: torch.dtype) -> Models:
    """On the device `meta`: what a model of that architecture is made of, to count with."""
    models = networks_of(architecture)
    for model in (models.unet, models.text.one, models.text.two):
        nn.Module.to(model, dtype).requires_grad_(False).eval()
    return models


def load_vae(base: BaseFiles, *, device: torch.device | str, dtype: torch.dtype) -> AutoencoderKL:
    """The autoencoder of a checkpoint. Raises `bad-input`."""
    with open_autoencoder(base) as checkpoint:
        shape = read_vae_shape(checkpoint.shapes, name=checkpoint.path)
        with torch.device("meta"):
            vae = AutoencoderKL(**_vae_config(shape))
        _Filler(checkpoint, torch.device(device), dtype).fill("vae", vae)
    return vae


def _unet_config(architecture: Architecture) -> dict[str, object]:
    unet = architecture.unet
    down = tuple("CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in unet.depths)
    up = tuple("CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(unet.depths))
    return {
        "in_channels": LATENT_CHANNELS,
        "out_channels": LATENT_CHANNELS,
        "down_block_types": down,
        "up_block_types": up,
        "block_out_channels": unet.widths,
        "layers_per_block": 2,
        "cross_attention_dim": unet.context_width,
        "transformer_layers_per_block": tuple(max(1, depth) for depth in unet.depths),
        # diffusers' name for the number of heads, kept by it for old configurations.
        "attention_head_dim": tuple(heads(width) for width in unet.widths),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": SIZE_VALUES,
        "projection_class_embeddings_input_dim": unet.vector_width,
        "time_embedding_dim": unet.time_width,
        "norm_num_groups": NORM_GROUPS,
    }


def _text_config(text: TextShape, activation: str, projection_width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=text.vocabulary,
        hidden_size=text.width,
        intermediate_size=text.mlp_width,
        projection_dim=projection_width,
        num_hidden_layers=text.layers,
        num_attention_heads=heads(text.width),
        max_position_embeddings=TOKENS,
        hidden_act=activation,
        bos_token_id=BEGIN,
        eos_token_id=END,
    )


def _vae_config(vae: VaeShape) -> dict[str, object]:
    levels = len(vae.widths)
    return {
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "block_out_channels": vae.widths,
        "layers_per_block": 2,
        "latent_channels": LATENT_CHANNELS,
        "norm_num_groups": NORM_GROUPS,
        "scaling_factor": VAE_SCALE,
    }


class _Filler:
    """Puts a checkpoint's tensors into networks, having checked all names and shapes before it reads any data."""

    def __init__(self, checkpoint: OpenBase, device: torch.device, dtype: torch.dtype) -> None:
        self._checkpoint = checkpoint
        self._device = device
        self._dtype = dtype
        self.rounding = fp8.Error()
        self._placed: list[tuple[str, Placement]] = []
        for key in checkpoint.shapes:
            found = placements(key)
            if found is None:
                raise bad_input(
                    f'"{checkpoint.path}" has a tensor that SDXL does not have: "{key}".',
                    hint="lorac trains on plain SDXL checkpoints; a file with additions would silently lose them.",
                )
            self._placed += [(key, placement) for placement in found]

    def fill(
        self,
        component: Component,
        model: nn.Module,
        *,
        inner_model: bool = True,
        waiting: Collection[nn.Module] = (),
    ) -> None:
        """`inner_model`: whether the live text encoder names its modules with `text_model.`. The weights of modules
        that are `waiting` stay with the host."""
        missing = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        sources: dict[str, tuple[str, Placement]] = {}
        for key, placement in self._placed:
            if placement.component != component:
                continue
            name = placement.name if inner_model else placement.name.removeprefix("text_model.")
            needed = missing.pop(name, None)
            self._check(key, needed, _placed_shape(self._checkpoint.shapes[key], placement))
            sources[name] = (key, placement)
        if missing:
            raise bad_input(
                f'"{self._checkpoint.path}" is incomplete: it lacks what becomes "{min(missing)}" '
                f"({component}, {len(missing)} tensors in all)."
            )
        small = {f"{name}.weight": layer for name, layer in fp8.layers_of(model)}
        on_host = {id(tensor) for module in waiting for tensor in module.parameters()}
        host = {name for name, tensor in model.named_parameters() if id(tensor) in on_host}
        tensors: dict[str, Tensor] = {}
        # One after the other, so that of what becomes small, or goes back, only one tensor is ever there as a whole.
        for name, source in sources.items():
            final = torch.device("cpu") if name in host else self._device
            tensors[name] = self._stored(self._read(*source), small.get(name), final)
        model.load_state_dict(tensors, assign=True)
        model.requires_grad_(False).eval()

    def _check(self, key: str, needed: Shape | None, given: Shape) -> None:
        if needed is None:
            raise bad_input(f'"{self._checkpoint.path}" has a tensor that its architecture has no place for: "{key}".')
        if needed != given:
            raise bad_input(
                f'In "{self._checkpoint.path}" the tensor "{key}" has shape '
                f"{list(self._checkpoint.shapes[key])}, which does not fit {list(needed)}."
            )

    def _stored(self, weight: Tensor, layer: fp8.Fp8Layer | None, final: torch.device) -> Tensor:
        """A weight of the file as the network keeps it, in fp8 with a `layer` for that, on its `final` device.

        A GPU converts what it is given, even what does not stay: one core would need longer than the disk.
        """
        if layer is None:
            return self._converted(weight).to(final)
        q = torch.empty(weight.shape, dtype=fp8.FP8, device=self._device)
        scale = torch.empty(layer.scale.shape, dtype=self._dtype, device=self._device)
        rows = max(1, _PIECE // weight[0].numel())
        for piece, q_piece, scale_piece in zip(*(each.split(rows) for each in (weight, q, scale)), strict=True):
            converted = self._converted(piece)
            found_q, found_scale = fp8.split(converted)
            self.rounding.add(converted, found_q, found_scale)
            q_piece.copy_(found_q)
            scale_piece.copy_(found_scale)
        layer.scale = scale.to(final)
        return q.to(final)

    def _converted(self, weight: Tensor) -> Tensor:
        # In this order.
        return weight.to(self._device).to(self._dtype)

    def _read(self, key: str, placement: Placement) -> Tensor:
        if placement.part is None:
            tensor = self._checkpoint.tensor(key)
        else:
            third = self._checkpoint.shapes[key][0] // 3
            tensor = self._checkpoint.rows(key, placement.part * third, (placement.part + 1) * third)
        if placement.change == "transpose":
            tensor = tensor.T.contiguous()
        elif placement.change == "drop-kernel":
            tensor = tensor.reshape(tensor.shape[:2])
        return tensor


def _placed_shape(shape: Shape, placement: Placement) -> Shape:
    if placement.part is not None and shape:
        return (shape[0] // 3, *shape[1:])
    if placement.change == "transpose":
        return shape[::-1]
    if placement.change == "drop-kernel" and shape[2:] == (1, 1):
        return shape[:2]
    return shape
