"""A network that begins as a LoRA which is there already, instead of changing nothing.

The file's module and the network's must be of one family and of the same sizes. Where their scales alpha / rank differ,
the factor that starts at zero in a new network takes up the difference, so ΔW is that of the file. Modules that the
file lacks begin as new ones. Modules that the network lacks would be lost, so they are an error, unless they change
nothing (sd-scripts saves such for the last layer of text encoder 1).

The file is in its canonical form: kohya's names.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lora_worker.branches import SCALAR, STARTING_AT_ZERO, Branch
from lora_worker.errors import WorkerError, bad_input, non_finite
from lora_worker.families import family_of
from lora_worker.network import Network
from lora_worker.safetensors_file import SafetensorsReader

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

# How a matrix says its rank: the part, and which of its sizes.
_RANK_OF = {"lora_down.weight": 0, "hada_w1_b": 0, "lokr_w2_b": 0, "lokr_w1_b": 0}


@torch.no_grad()
def begin_from(network: Network, path: str) -> int:
    """Gives the network the weights of the file. How many of its modules the file lacks.

    Raises `bad-input` where the two do not fit, naming modules, and `non-finite`.
    """
    with SafetensorsReader(path) as reader:
        modules = _modules(reader)
        _refuse_misfits(network, modules)
        _refuse_lost(network, modules, reader)
        for name, branch in network.branches.items():
            if name in modules:
                _begin(branch, reader)
    return sum(name not in modules for name in network.branches)


def _modules(reader: SafetensorsReader) -> dict[str, dict[str, Shape]]:
    """The shapes of each module's parts, by suffix."""
    found: dict[str, dict[str, Shape]] = {}
    for key, entry in reader.header.tensors.items():
        name, _, part = key.partition(".")
        found.setdefault(name, {})[part] = entry.shape
    return found


def _refuse_misfits(network: Network, modules: Mapping[str, Shapes]) -> None:
    misfits = {}
    for name, branch in network.branches.items():
        message = _misfit(branch, modules[name]) if name in modules else None
        if message is not None:
            misfits[name] = message
    if misfits:
        name, message = next(iter(misfits.items()))
        others = f" So it is with {len(misfits) - 1} more." if len(misfits) > 1 else ""
        raise bad_input(
            f'The training cannot begin with the LoRA that "init" names: "{name}" {message}.{others}',
            hint="Write a network that is as the LoRA is: its kind, its ranks (dim, conv_dim, dims), its options.",
        )


def _misfit(branch: Branch, found: Shapes) -> str | None:
    wanted = {part: tuple(parameter.shape) for part, parameter in branch.parts.items() if part != SCALAR}
    told = {part: shape for part, shape in found.items() if part != "alpha"}
    if _family(told) != _family(wanted):
        return f"is {_article(_family(told))} there, and the network makes {_article(_family(wanted))} of it"
    for part, axis in _RANK_OF.items():
        if part in told and part in wanted and told[part][axis] != wanted[part][axis]:
            setting = "conv_dim" if branch.target.kind == "conv3x3" else "dim"
            return f"has rank {told[part][axis]} there, and {wanted[part][axis]} in the network ({setting})"
    if told.keys() != wanted.keys():
        return f"consists of {_listed(told)} there, and of {_listed(wanted)} in the network"
    for part, shape in wanted.items():
        if _without_ones(told[part]) != _without_ones(shape):
            return f'has "{part}" of shape {list(told[part])} there, and {list(shape)} is needed'
    return None


def _refuse_lost(network: Network, modules: Mapping[str, Shapes], reader: SafetensorsReader) -> None:
    lost = [
        name
        for name, parts in sorted(modules.items())
        if name not in network.branches and not _changes_nothing(name, parts, reader)
    ]
    if lost:
        raise WorkerError(
            "bad-input",
            f'The LoRA that "init" names has {len(lost)} modules that the training leaves alone, such as "{lost[0]}": '
            "they would be lost.",
            "Let the network have them (preset, modules, dims, rates), or take them out with a chop block.",
        )


def _changes_nothing(name: str, parts: Shapes, reader: SafetensorsReader) -> bool:
    return any(not reader.tensor(f"{name}.{part}").any() for part in parts if part in STARTING_AT_ZERO)


def _begin(branch: Branch, reader: SafetensorsReader) -> None:
    name = branch.target.name
    scale = _scale_change(branch, reader)
    for part, parameter in branch.parts.items():
        if part == SCALAR:
            # In files it is a part of a factor.
            parameter.fill_(1)
            continue
        value = _finite(reader.tensor(f"{name}.{part}").float(), f"{name}.{part}")
        if part in STARTING_AT_ZERO:
            value = value * scale
        parameter.copy_(value.reshape(parameter.shape))


def _scale_change(branch: Branch, reader: SafetensorsReader) -> float:
    """The file's alpha over the network's. A file without one has a scale of 1, as an alpha of the rank gives."""
    name = f"{branch.target.name}.alpha"
    rank = next((branch.parts[part].shape[axis] for part, axis in _RANK_OF.items() if part in branch.parts), None)
    # Two whole Kronecker factors have no rank, and readers give them a scale of 1 whatever the alpha.
    if rank is None or branch.alpha is None:
        return 1.0
    alpha = float(_finite(reader.tensor(name).float(), name)) if name in reader.header.tensors else float(rank)
    return alpha / branch.alpha


def _finite(value: Tensor, name: str) -> Tensor:
    if not value.isfinite().all():
        raise non_finite(f'"{name}" in the LoRA that "init" names has values that are not finite numbers.')
    return value


def _family(parts: Mapping[str, Shape]) -> str:
    family = family_of(set(parts))
    return "DoRA" if family == "LoRA" and "dora_scale" in parts else family


def _article(family: str) -> str:
    return "of no known family" if family == "unknown" else f"a {family}"


def _listed(parts: Mapping[str, Shape]) -> str:
    return ", ".join(sorted(parts))


def _without_ones(shape: Shape) -> list[int]:
    return [size for size in shape if size != 1]
