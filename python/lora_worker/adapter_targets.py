"""Every module that an adapter in a file may change, by the name that it has there.

That is more than a LoRA of ours adapts: other trainers also reach the first and last layers, the embeddings of time and
size, the projection of the pooled text, and norms. Names come from rules over the architecture, as in `naming`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from torch import nn

from lora_worker.architecture import TextShape, UNetShape
from lora_worker.models import Models
from lora_worker.naming import unet_module
from lora_worker.unet_plan import Attention, Resnet, linears_of_attention, unet_parts

_OUTSIDE_THE_BLOCKS = (
    *("input_blocks.0.0", "time_embed.0", "time_embed.2", "label_emb.0.0", "label_emb.0.2"),
    *("out.0", "out.2"),
)
_TEXT_LAYER = (
    *("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2"),
    *("layer_norm1", "layer_norm2"),
)


def modules_by_name(models: Models) -> dict[str, nn.Module]:
    """The live modules: linear layers, convolutions and norms."""
    one, two = models.text.one, models.text.two
    # transformers 5.6 took the inner name away from its plain CLIP text model.
    inner = getattr(one, "text_model", one)
    return {
        **dict(_text_modules("te1", models.architecture.te1, inner)),
        **dict(_text_modules("te2", models.architecture.te2, two.text_model)),
        "lora_te2_text_projection": two.text_projection,
        **{
            f"lora_unet_{path.replace('.', '_')}": models.unet.get_submodule(unet_module(path) or path)
            for path in _unet_paths(models.architecture.unet)
        },
    }


def _text_modules(
    component: Literal["te1", "te2"], text: TextShape, inner: nn.Module
) -> Iterator[tuple[str, nn.Module]]:
    paths = [f"encoder.layers.{layer}.{path}" for layer in range(text.layers) for path in _TEXT_LAYER]
    for path in [*paths, "final_layer_norm"]:
        yield f"lora_{component}_text_model_{path.replace('.', '_')}", inner.get_submodule(path)


def _unet_paths(unet: UNetShape) -> Iterator[str]:
    """As the checkpoint has them, without prefix."""
    yield from _OUTSIDE_THE_BLOCKS
    for part in unet_parts(unet):
        if isinstance(part, Resnet):
            for leaf in ("in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3"):
                yield f"{part.path}.{leaf}"
            if part.in_width != part.out_width:
                yield f"{part.path}.skip_connection"
        elif isinstance(part, Attention):
            yield f"{part.path}.norm"
            for path, *_ in linears_of_attention(part, unet.context_width):
                yield f"{part.path}.{path}"
            for index in range(part.depth):
                for norm in ("norm1", "norm2", "norm3"):
                    yield f"{part.path}.transformer_blocks.{index}.{norm}"
        else:
            yield part.path
