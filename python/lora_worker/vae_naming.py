"""diffusers' names of the autoencoder's modules, from those of a checkpoint."""

from __future__ import annotations

import re

_RESNET = {
    "norm1": "norm1",
    "conv1": "conv1",
    "norm2": "norm2",
    "conv2": "conv2",
    "nin_shortcut": "conv_shortcut",
}
_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}


# Before diffusers had one class for all attention, its files called the autoencoder's otherwise; such files are still
# published, SDXL's own VAE among them.
_OLD_ATTENTION = {"query": "q", "key": "k", "value": "v", "proj_attn": "proj_out"}


def vae_module(ldm: str) -> str | None:
    """diffusers' path of a module of the autoencoder."""
    if ldm in ("quant_conv", "post_quant_conv"):
        return ldm
    side, _, rest = ldm.partition(".")
    if side not in ("encoder", "decoder"):
        return None
    if rest in ("conv_in", "conv_out"):
        return ldm
    if rest == "norm_out":
        return f"{side}.conv_norm_out"
    match = re.fullmatch(r"mid\.block_([12])\.(\w+)", rest)
    if match and match[2] in _RESNET:
        return f"{side}.mid_block.resnets.{int(match[1]) - 1}.{_RESNET[match[2]]}"
    match = re.fullmatch(r"mid\.attn_1\.(\w+)", rest)
    if match and match[1] in _ATTENTION:
        return f"{side}.mid_block.attentions.0.{_ATTENTION[match[1]]}"
    match = re.fullmatch(r"(down|up)\.([0-3])\.(?:block\.(\d)\.(\w+)|((?:down|up)sample)\.conv)", rest)
    if not match or match[1] != {"encoder": "down", "decoder": "up"}[side]:
        return None
    # The decoder counts its levels from the finest, and diffusers in the order in which they are run.
    level = int(match[2]) if side == "encoder" else 3 - int(match[2])
    blocks = f"{side}.{match[1]}_blocks.{level}"
    if match[5]:
        return f"{blocks}.{match[5]}rs.0.conv" if match[5].startswith(match[1]) else None
    return f"{blocks}.resnets.{match[3]}.{_RESNET[match[4]]}" if match[4] in _RESNET else None


_RESNET_BACK = {diffusers: ldm for ldm, diffusers in _RESNET.items()}
_ATTENTION_BACK = {diffusers: ldm for ldm, diffusers in _ATTENTION.items()} | _OLD_ATTENTION


def ldm_vae_module(diffusers: str) -> str | None:
    """The checkpoint's path of a module, from diffusers' new or old name. None for one that is unknown."""
    side, _, rest = diffusers.partition(".")
    resnet = re.fullmatch(r"mid_block\.resnets\.([01])\.(\w+)", rest)
    attention = re.fullmatch(r"mid_block\.attentions\.0\.(.+)", rest)
    block = re.fullmatch(r"(down|up)_blocks\.([0-3])\.(?:resnets\.(\d)\.(\w+)|(down|up)samplers\.0\.conv)", rest)
    if resnet:
        ldm = f"{side}.mid.block_{int(resnet[1]) + 1}.{_RESNET_BACK.get(resnet[2])}"
    elif attention:
        ldm = f"{side}.mid.attn_1.{_ATTENTION_BACK.get(attention[1])}"
    elif block:
        level = int(block[2]) if block[1] == "down" else 3 - int(block[2])
        leaf = f"block.{block[3]}.{_RESNET_BACK.get(block[4])}" if block[3] else f"{block[5]}sample.conv"
        ldm = f"{side}.{block[1]}.{level}.{leaf}"
    else:
        ldm = f"{side}.norm_out" if rest == "conv_norm_out" else diffusers
    return ldm if vae_module(ldm) is not None else None
