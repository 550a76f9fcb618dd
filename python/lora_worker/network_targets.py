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
from difflib import SequenceMatcher
from fnmatch import fnmatchcase

from lora_worker.architecture import Architecture
from lora_worker.errors import WorkerError, bad_input
from lora_worker.naming import LoraTarget, norm_targets
from lora_worker.network_settings import NetworkSettings, Preset

# By kohya's names. `full` is all that there is.
_PRESETS: dict[Preset, re.Pattern[str]] = {
    "full": re.compile("lora_"),
    "attn-mlp": re.compile(r"lora_te|lora_unet_.*_(transformer_blocks_\d+_|proj_in$|proj_out$|1_norm$)"),
    "attn-only": re.compile(r"lora_te\d_.*_self_attn_|lora_unet_.*_attn[12]_"),
    "unet-only": re.compile("lora_unet_"),
}
_TEXT_MLP = re.compile(r"lora_te\d_.*_mlp_fc[12]$")
_SHOWN = 3


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
            raise _fits_nothing(pattern, names, settings.preset)
    reached = {target.name for target in trainable(targets)}
    chosen = [
        target
        for target in offered
        if target.component in components
        and target.name in reached
        and (not settings.modules or any(fnmatchcase(target.name, pattern) for pattern in settings.modules))
        and (target.kind == "norm" or settings.ranks is None or settings.ranks.of(target)[0] > 0)
    ]
    if not chosen and components:
        raise bad_input(
            "There is nothing to train: the network's settings leave no layer that a gradient can reach.",
            hint="Name more modules, or give some block a rank above 0.",
        )
    return chosen


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


def _fits_nothing(pattern: str, names: Sequence[str], preset: Preset) -> WorkerError:
    literal = pattern.replace("*", "").replace("?", "")

    def likeness(name: str) -> float:
        blocks = SequenceMatcher(None, literal, name, autojunk=False).get_matching_blocks()
        # Few long pieces are nearer than many short ones.
        return sum(block.size**2 for block in blocks)

    near = sorted(names, key=lambda name: (-likeness(name), len(name), name))[:_SHOWN]
    similar = ", ".join(f'"{name}"' for name in near)
    return bad_input(
        f'The pattern "{pattern}" in "modules" fits no layer of preset {preset}. Similar names are {similar}.',
        hint='A pattern is a name as LoRA files have it, with * for any letters: "lora_unet_output_blocks_1_*".',
    )
