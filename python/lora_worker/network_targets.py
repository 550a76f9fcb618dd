"""Which layers a network adapts: those of a preset that patterns of names let through.

Chosen by names, and never by the classes of live modules: these change from version to version of the libraries, and
with them what was trained by programs that go by classes.

Layers of SDXL's text encoder 1 behind the last hidden state that SDXL reads never get a gradient. They are not adapted
and not in the files. Readers treat a missing module as one that changes nothing, which is what LyCORIS' zero-filled
modules do as well.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from lora_worker.architecture import Architecture
from lora_worker.errors import bad_input
from lora_worker.layer_patterns import by_layer, fits_nothing, is_pattern
from lora_worker.naming import LoraTarget, norm_targets
from lora_worker.network_settings import NetworkSettings, Preset, Ranks
from lora_worker.train_request import TrainSettings

# By kohya's names. `full` is all that there is.
_PRESETS: dict[Preset, re.Pattern[str]] = {
    "full": re.compile("lora_"),
    "attn-mlp": re.compile(r"lora_te|lora_unet_.*_(transformer_blocks_\d+_|proj_in$|proj_out$|1_norm$)"),
    "attn-only": re.compile(r"lora_te\d_.*_self_attn_|lora_unet_.*_attn[12]_"),
    "unet-only": re.compile("lora_unet_"),
}
_TEXT_MLP = re.compile(r"lora_te\d_.*_mlp_fc[12]$")


def chosen_targets(
    targets: Sequence[LoraTarget], settings: NetworkSettings, components: Collection[str]
) -> list[LoraTarget]:
    """Those of these components, in the order of `targets`, which are all that there are to choose from.

    Raises `bad-input` for a pattern that fits none, and where no layer is left.
    """
    offered = [target for target in targets if _is_in_preset(target, settings)]
    names = [target.name for target in offered]
    for pattern in settings.modules:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise fits_nothing(pattern, names, setting="modules", among=f" of preset {settings.preset}")
    reached = {target.name for target in trainable(targets)}
    chosen = [
        target
        for target in offered
        if target.component in components
        and target.name in reached
        and (not settings.modules or any(fnmatchcase(target.name, pattern) for pattern in settings.modules))
        and (settings.ranks is None or settings.ranks.adapts(target))
    ]
    if not chosen and components:
        raise bad_input(
            "There is nothing to train: the network's settings leave no layer that a gradient can reach.",
            hint="Name more modules, or give some block a rank above 0.",
        )
    return chosen


def with_single_layers(settings: TrainSettings, targets: Sequence[LoraTarget]) -> TrainSettings:
    """The settings with the names of layers in place of patterns, in ranks and rates. `targets` are all that there are.

    Raises `bad-input` for a pattern that fits no layer of the preset.
    """
    offered = [target for target in targets if _is_in_preset(target, settings.network)]
    names = [target.name for target in offered]
    rates = by_layer(settings.block_lr, names, setting="block_lr")
    ranks = settings.network.ranks
    if ranks is None:
        return replace(settings, block_lr=rates)
    refuse_misplaced_ranks(ranks, offered)
    dims = by_layer(ranks.dims, names, setting="dims")
    large = [target.name for target in offered if target.kind == "conv3x3"]
    conv_dims = by_layer(ranks.conv_dims, large, setting="conv_dims")
    network = replace(settings.network, ranks=replace(ranks, dims=dims, conv_dims=conv_dims))
    return replace(settings, block_lr=rates, network=network)


def refuse_misplaced_ranks(ranks: Ranks, offered: Sequence[LoraTarget]) -> None:
    """A rank is for layers of a shape: in `dims` linear ones and 1×1 convolutions, in `conv_dims` 3×3 ones. A rank of 0
    in `dims` is for all. Raises `bad-input` for a pattern that fits none of them."""
    small = [target.name for target in offered if target.kind in ("linear", "conv1x1")]
    large = [target.name for target in offered if target.kind == "conv3x3"]
    for setting, other, numbers, own, others in (
        ("dims", "conv_dims", ranks.dims, small, large),
        ("conv_dims", "dims", ranks.conv_dims, large, small),
    ):
        for pattern in filter(is_pattern, numbers):
            if _fits(pattern, own) or (setting == "dims" and numbers[pattern] == 0):
                continue
            if not _fits(pattern, others):
                raise fits_nothing(pattern, own, setting=setting)
            raise bad_input(
                f'The pattern "{pattern}" in "{setting}" fits only layers whose ranks "{other}" says.',
                hint='"dims" is for linear layers and 1x1 convolutions, "conv_dims" for 3x3 convolutions.',
            )


def _fits(pattern: str, names: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names)


def offered_norms(architecture: Architecture, settings: NetworkSettings) -> tuple[LoraTarget, ...]:
    """What can be chosen besides layers."""
    return norm_targets(architecture) if settings.train_norm else ()


def trainable(targets: Iterable[LoraTarget]) -> list[LoraTarget]:
    """The targets that a gradient can reach: all but those of text encoder 1's last layer."""
    listed = list(targets)
    last = max((_te1_layer(target) for target in listed), default=-1)
    return [target for target in listed if target.component != "te1" or _te1_layer(target) != last]


def _te1_layer(target: LoraTarget) -> int:
    match = re.match(r"lora_te1_text_model_encoder_layers_(\d+)_", target.name)
    return int(match[1]) if match else -1


def _is_in_preset(target: LoraTarget, settings: NetworkSettings) -> bool:
    if target.component != "unet" and settings.text_encoder_modules == "mlp" and not _TEXT_MLP.match(target.name):
        return False
    return _PRESETS[settings.preset].match(target.name) is not None
